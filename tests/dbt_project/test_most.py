"""What a pane keeps of categories is bounded, exact, and the same in any order of events."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.deploy import dbt
from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.project_copy import copy_of_project, replace
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, START, send

MOST = 3
WORDS = st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "other", "", "日本", True, None, 7])
Row = tuple[Any, ...]


def predicted(number: int, minute: int, value: Any, **fields: Any) -> tuple[Topic, Event]:
    """A prediction of a class, which it has as a feature, too."""
    fields |= {"prediction": value, "features": {"of": value, "plan": "pro"}}
    moment = START + timedelta(minutes=minute)
    fields |= {"request_id": f"r{number}", "model": "m", "event_time": moment.isoformat()}
    return "inference", parse("inference", {"model_version": "v1", **fields})


def counted(engine: Engine, pane: str, category: str, count: str, where: str) -> Counter[Row]:
    """Rows of a pane by its start and its category."""
    start = "null" if pane == "prediction_counts" else "pane_start"
    rows = engine.rows(
        f"select {start} as start, {category} as category, {count} as n from panes.{pane} {where}"
    )
    assert len({(row["start"], row["category"]) for row in rows}) == len(rows)
    return Counter({(row["start"], row["category"]): row["n"] for row in rows})


def kept(drawn: Counter[Row], most: int) -> Counter[Row]:
    """Fold what is not among the `most` smallest hashes of its pane."""
    names: dict[Any, list[str]] = defaultdict(list)
    for start, category in drawn:
        if category is not None:
            names[start].append(category)
    first = {
        start: set(sorted(found, key=lambda name: hashlib.md5(name.encode()).hexdigest())[:most])
        for start, found in names.items()
    }
    folded: Counter[Row] = Counter()
    for (start, category), rows in drawn.items():
        folded[start, category if category in first.get(start, ()) else None] += rows
    return folded


def check(engine: Engine, events: list[tuple[Topic, Event]], most: int) -> None:
    texts: Counter[Row] = Counter()
    classes: dict[str, Counter[Row]] = {"1 minute": Counter(), "1 hour": Counter()}
    all_classes: Counter[Row] = Counter()
    for event in {event.request_id: event for _, event in events}.values():  # type: ignore[union-attr]
        value = event.prediction  # type: ignore[union-attr]
        name = None if value is None else {"true": "1"}.get(str(value).lower(), str(value))
        assert event.event_time is not None
        hour = event.event_time.replace(minute=0, second=0)
        classes["1 minute"][event.event_time, name] += 1
        classes["1 hour"][hour, name] += 1
        all_classes[None, name] += 1
        if isinstance(event.features["of"], str):  # type: ignore[union-attr]
            texts[hour, event.features["of"]] += 1  # type: ignore[union-attr]
    of_feature = "where feature = 'of' and type = 'string' and grain = '1 hour'"
    assert counted(engine, "feature_panes", "category", "predictions", of_feature) == kept(
        texts, most
    )
    for grain, drawn in classes.items():
        where = f"where grain = '{grain}'"
        found = counted(engine, "inference_panes", "prediction", "inferences", where)
        assert found == kept(drawn, most)
    found = counted(engine, "prediction_counts", "prediction", "inferences", "")
    assert found == kept(all_classes, most)


def keep_few(engine: Engine, folder: Path) -> Path:
    """Deploy panes that keep three."""
    project = copy_of_project(folder)
    replace(project / "macros/pane/pane_most.sql", "return(256)", f"return({MOST})")
    dbt(engine, "run", "--project-dir", str(project), "--select", "panes")
    return project


def state(engine: Engine) -> list[list[str]]:
    panes = ("feature_panes", "inference_panes", "prediction_counts")
    return [sorted(map(repr, engine.rows(f"select * from panes.{pane}"))) for pane in panes]


def test_any_order_and_split_gives_what_is_kept_of_all(
    engine: Engine, log: EventLog, tmp_path: Path
) -> None:
    keep_few(engine, tmp_path)

    @EXAMPLES
    @given(
        drawn=st.lists(st.tuples(st.integers(0, 3), WORDS), min_size=1, max_size=60),
        seed=st.integers(0, 2**16),
    )
    def orders(drawn: list[tuple[int, Any]], seed: int) -> None:
        rng = random.Random(seed)
        events = [predicted(i, 20 * minute, value) for i, (minute, value) in enumerate(drawn)]
        states = []
        for _ in range(2):
            empty(engine)
            rng.shuffle(events)
            cuts = sorted(rng.randrange(len(events) + 1) for _ in range(3))
            for first, last in zip([0, *cuts], [*cuts, len(events)], strict=True):
                send(log, events[max(first - 5, 0) : last])  # some of them again
            check(engine, events, MOST)
            states.append(state(engine))
        assert states[0] == states[1]

    orders()


def test_a_rebuilt_pane_keeps_the_same(engine: Engine, log: EventLog, tmp_path: Path) -> None:
    project = keep_few(engine, tmp_path)
    rng = random.Random(4)
    events = [predicted(i, rng.randrange(90), f"word {rng.randrange(20)}") for i in range(300)]
    for first in range(0, 300, 7):
        send(log, events[first : first + 7])
    check(engine, events, MOST)
    before = state(engine)
    dbt(engine, "run", "--project-dir", str(project), "--select", "panes", "--full-refresh")
    assert state(engine) == before


def test_strings_that_never_come_twice_are_a_bounded_number_of_rows(
    engine: Engine, log: EventLog
) -> None:
    events = [predicted(i, i // 5_000, f"text {i}") for i in range(20_000)]
    for first in range(0, len(events), 4_000):
        send(log, events[first : first + 4_000])
    check(engine, events, 256)
    rows = engine.rows(
        "select grain, pane_start, count(*) as n, sum(predictions)::bigint as predictions "
        "from panes.feature_panes where feature = 'of' group by 1, 2"
    )
    assert [row["n"] for row in rows] == [257] * 5
    assert sum(row["predictions"] for row in rows) == 40_000
    plan = engine.rows("select category from panes.feature_panes where feature = 'plan'")
    assert {row["category"] for row in plan} == {"pro"}


def test_two_writers_fold_one_pane(engine: Engine, tmp_path: Path) -> None:
    keep_few(engine, tmp_path)
    events = [predicted(i, i % 2, f"word {i % 50}") for i in range(1_000)]

    def write(side: int) -> None:
        with EventLog(engine) as log:
            for first in range(500 * side, 500 * (side + 1), 10):
                send(log, events[first : first + 10])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    check(engine, events, MOST)

"""Vectors of recent inputs: which are made, once each, and how long they are kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.control import policies
from headrace.engine import Engine
from headrace.errors import ContractError, ModelError, SettingError
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.model.text.vectors import embedder_name, shared_embedder
from headrace.vectors import embedder as module
from headrace.vectors.bases import embedder_of
from headrace.vectors.embedder import Budget, InputEmbedder, hour_of
from tests.support import vectors
from tests.support.policies import set_policies
from tests.support.waiting import until

START = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors.use(monkeypatch)


def send(log: EventLog, *events: dict[str, Any]) -> None:
    """Send inferences of the model m, each a minute after the one before."""
    log.append(
        "inference",
        [
            parse(
                "inference",
                {"model": "m", "event_time": (START + timedelta(minutes=i)).isoformat(), **event},
            )
            for i, event in enumerate(events)
        ],
    )


def stored(engine: Engine) -> list[str]:
    rows = engine.rows("select request_id from headrace.input_vectors order by request_id")
    return [row["request_id"] for row in rows]


def hours(engine: Engine) -> dict[tuple[str, str, datetime], tuple[int, Any, Any]]:
    """The sums as they should be, from the vectors."""
    found: dict[tuple[str, str, datetime], list[Any]] = {}
    for row in engine.rows(
        "select model, base, event_time, embedding::real[] as v from headrace.input_vectors"
    ):
        place = row["model"], row["base"], hour_of(row["event_time"])
        found.setdefault(place, []).append(row["v"])
    return {
        place: (len(rows), np.sum(rows, axis=0), np.square(rows).sum(axis=0))
        for place, rows in found.items()
    }


def check_hours(engine: Engine) -> None:
    expected = hours(engine)
    rows = engine.rows("select * from events.input_vector_hours")
    assert len(rows) == len(expected)
    for row in rows:
        n, sums, squares = expected[row["model"], row["base"], row["pane_start"]]
        assert row["vectors"] == n
        np.testing.assert_allclose(row["sums"], sums, atol=1e-6)
        np.testing.assert_allclose(row["squares"], squares, atol=1e-6)


def test_each_input_with_a_text_has_one_vector(engine: Engine, log: EventLog) -> None:
    set_policies(engine, "m", embed_inputs="3600")
    send(
        log,
        {"request_id": "text", "input": "a b c"},
        {"request_id": "object", "input": {"title": "a", "n": 3, "body": ["b", "c"]}},
        {"request_id": "nothing"},
        {"request_id": "number", "input": 7},
        {"request_id": "blank", "input": " \n"},
        {"request_id": "list", "item_id": "1", "input": "one list"},
        {"request_id": "list", "item_id": "2", "input": "one list"},
        {"request_id": "shadow", "variant": "shadow", "shadow_of": "text", "input": "a b c"},
        {"request_id": "other", "model": "unwatched", "input": "a b c"},
    )
    vectors.embed(engine)
    assert stored(engine) == ["list", "object", "text"]
    send(log, {"request_id": "later", "input": "d e f", "event_time": "2024-05-01T05:30:00Z"})
    vectors.embed(engine)
    vectors.embed(engine)
    assert stored(engine) == ["later", "list", "object", "text"]
    check_hours(engine)
    rows = engine.rows(
        "select embedding <#> embedding as length, base, event_time from headrace.input_vectors "
        "where request_id = 'text'"
    )
    assert rows[0]["length"] == pytest.approx(-1, abs=2e-3)
    assert rows[0]["base"] == "words/64/1" and rows[0]["event_time"] == START


def test_what_came_in_before_the_policy_is_left_out(engine: Engine, log: EventLog) -> None:
    send(log, {"request_id": "early", "input": "a"})
    vectors.embed(engine)
    set_policies(engine, "m", embed_inputs="60")
    send(log, {"request_id": "late", "input": "a"})
    vectors.embed(engine)
    assert stored(engine) == ["late"]


@given(
    st.floats(0.5, 500),
    st.lists(st.integers(0, 3 * 3600 - 1), max_size=400).map(sorted),
)
def test_a_budget_is_kept_and_spread_over_its_hour(an_hour: float, seconds: list[int]) -> None:
    budget = Budget(an_hour, START)
    taken: Counter[datetime] = Counter()
    for second in seconds:
        at = START + timedelta(seconds=second)
        if budget.has_room(at, taken[hour_of(at)]):
            taken[hour_of(at)] += 1
            assert taken[hour_of(at)] <= an_hour * (second % 3600) / 3600 + 1
    assert all(n < an_hour + 1 for n in taken.values())
    # Where as many come as there is room for, evenly, it is used.
    even = [START + timedelta(hours=(i + 0.5) / an_hour) for i in range(int(an_hour))]
    assert all(budget.has_room(at, i) for i, at in enumerate(even))


def test_the_budget_counts_what_is_stored(engine: Engine, log: EventLog) -> None:
    set_policies(engine, "m", embed_inputs="6")
    every_minute = [{"request_id": f"r{i:02}", "input": f"text {i}"} for i in range(60)]
    for part in range(0, 60, 20):
        send(
            log,
            *(
                {**event, "event_time": (START + timedelta(minutes=part + i)).isoformat()}
                for i, event in enumerate(every_minute[part : part + 20])
            ),
        )
        vectors.embed(engine)
    assert stored(engine) == ["r00", "r10", "r20", "r30", "r40", "r50"]
    check_hours(engine)


def test_batches_lose_and_repeat_nothing(
    engine: Engine, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small batches, spans that grow, and many rows of one moment of ingestion."""
    monkeypatch.setattr(module, "BATCH", 7)
    monkeypatch.setattr(module, "LOOKED_AT", 11)
    set_policies(engine, "m", embed_inputs="100000")
    for batch in range(4):
        start = START + timedelta(minutes=batch)
        send(
            log,
            *(
                {
                    "request_id": f"{batch}-{i}",
                    "input": f"text {batch} {i}",
                    "event_time": (start + timedelta(seconds=2 * i)).isoformat(),
                }
                for i in range(25)
            ),
        )
    with engine.connect() as connection:  # all of two batches at once
        connection.execute(
            "update events.inference set ingested_at = (select min(ingested_at) "
            "from events.inference where request_id like '1-%') where request_id ~ '^[12]-'"
        )
    vectors.embed(engine)
    assert stored(engine) == sorted(f"{b}-{i}" for b in range(4) for i in range(25))
    check_hours(engine)


def test_killed_in_between_each_counts_once(
    engine: Engine, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_policies(engine, "m", embed_inputs="3600")
    send(log, *({"request_id": f"r{i}", "input": f"text {i}"} for i in range(5)))

    class Killed(BaseException):
        pass

    whole = module._insert

    def dies(*arguments: Any) -> None:
        whole(*arguments)
        raise Killed

    monkeypatch.setattr(module, "_insert", dies)
    embedder = InputEmbedder(engine)
    embedder.lease.renew()
    with pytest.raises(Killed):
        while embedder.look():
            pass
    monkeypatch.setattr(module, "_insert", whole)
    assert stored(engine) == []
    # another one takes over, and the first one, which does not know, stores nothing
    other = InputEmbedder(engine)
    embedder.lease.give_back()
    other.lease.renew()
    for _ in range(10):
        embedder.look()
    assert stored(engine) == []
    while other.look():
        pass
    assert len(stored(engine)) == 5
    check_hours(engine)


def test_vectors_go_with_their_retention_and_sums_stay(engine: Engine, log: EventLog) -> None:
    set_policies(engine, "m", embed_inputs="3600", vector_retention="2 hours")
    send(log, *({"request_id": f"r{i}", "input": "a b"} for i in range(3)))
    vectors.embed(engine)
    at = (START + timedelta(hours=2, minutes=1)).isoformat()
    too_old = (START - timedelta(minutes=5)).isoformat()
    send(
        log,
        {"request_id": "new", "input": "c d", "event_time": at},
        {"request_id": "too old", "input": "c d", "event_time": too_old},
    )
    vectors.embed(engine)
    vectors.embed(engine)
    assert stored(engine) == ["new", "r1", "r2"]
    rows = engine.rows("select vectors from events.input_vector_hours order by pane_start")
    assert [row["vectors"] for row in rows] == [3, 1]


def test_a_base_that_cannot_be_loaded_holds_nobody_up(
    engine: Engine, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = vectors.use(monkeypatch)

    def of(_: object, model: str) -> Any:
        if model == "broken":
            raise ModelError("base: no such folder")
        return found

    monkeypatch.setattr(module, "embedder_of", of)
    set_policies(engine, embed_inputs="60")
    send(
        log, {"request_id": "a", "model": "broken", "input": "a"}, {"request_id": "b", "input": "a"}
    )
    said: list[str] = []
    embedder = InputEmbedder(engine, said.append)
    embedder.lease.renew()
    while embedder.look():
        pass
    assert stored(engine) == ["b"]
    assert said == ["inputs of broken are not embedded: base: no such folder"]


def test_sums_of_a_million_vectors_are_exact_enough(engine: Engine) -> None:
    """Where pgvector's `sum`, which adds in single precision, is not."""
    with engine.connect() as connection:
        connection.execute(
            "create aggregate total(double precision[]) "
            "(sfunc = control.added, stype = double precision[])"
        )
    exact, ours, single = engine.rows(
        """
        with vectors as materialized (
            select
                i % 1000 as batch,
                array[0.7071 + sin(i) / 1e4, cos(i) / 1e3]::real[]::halfvec as v
            from generate_series(1, 1000000) as i
        ),
        numbers as (
            select batch, place, x::double precision as x
            from vectors, unnest(v::real[]) with ordinality as numbers (x, place)
        ),
        batches as (
            select batch, array_agg(s order by place) as sums
            from (select batch, place, sum(x) as s from numbers group by 1, 2) as places
            group by 1
        )

        select 'exact' as how, array_agg(s / 16777216.0::double precision order by place) as sums
        from (select place, sum((x * 16777216)::bigint) as s from numbers group by 1) as places
        union all select 'ours', total(sums) from batches
        union all select 'single', sum(v::vector)::real[]::double precision[] from vectors
        """
    )
    gaps = [np.abs(np.array(one["sums"]) - exact["sums"]) / 1_000_000 for one in (ours, single)]
    assert gaps[0].max() < 1e-12
    assert gaps[1].max() > 1e-5


def test_arrays_are_added_place_by_place(engine: Engine) -> None:
    (row,) = engine.rows("select control.added(array[1.5, -2, 3], array[0.25, 2, 4]) as sum")
    assert row["sum"] == [1.75, 0, 7]


def test_an_engine_without_vectors_says_so(standin: Engine) -> None:
    with pytest.raises(SettingError, match="need HEADRACE_ENGINE=postgres, got risingwave"):
        InputEmbedder(standin)
    with pytest.raises(ContractError, match="embed_inputs: must be 0 on risingwave"):
        policies.write(standin, "m", {"embed_inputs": 5})
    policies.write(standin, "m", {"embed_inputs": 0})


def test_the_command_embeds_beside_the_others(engine: Engine, log: EventLog) -> None:
    """As `headrace up` starts it, with the base that Headrace brings."""
    set_policies(engine, "m", embed_inputs="3600")
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace.cli", "embedder"],
        env={
            **os.environ,
            "HEADRACE_DSN": engine.dsn,
            "HEADRACE_HOME": str(engine.settings.home),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "embedder ready\n"
        send(log, {"request_id": "r", "input": "how do I leave?"})
        until(lambda: stored(engine) == ["r"], 60)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0
    (row,) = engine.rows("select base, embedding::real[] as v from headrace.input_vectors")
    embedder = shared_embedder("", 64)
    assert row["base"] == embedder.name
    np.testing.assert_allclose(row["v"], embedder.vectors(["how do I leave?"])[0], atol=1e-3)


def test_the_vector_is_the_frozen_base_s() -> None:
    embedder = shared_embedder("", 64)
    texts = ["how do I leave?", "cancel my account", "the weather is nice"]
    found = embedder.vectors(texts)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    near = found @ found.T
    assert near[0, 1] > near[0, 2]
    assert embedder.name.startswith("all-MiniLM-L6-v2/64/")
    assert embedder_name("", 64) == embedder.name != embedder_name("", 65)


def test_a_declared_base_makes_the_vectors(engine: Engine, tmp_path: Any) -> None:
    models = tmp_path / "headrace.toml"
    models.write_text(
        '[models.m]\nrecipe = "text_classifier"\n[models.m.config]\ntokens = 8\n'
        '[models.own]\nrecipe = "tabular"\n'
    )
    settings = replace(engine.settings, models=str(models))
    assert embedder_of(settings, "m").tokens == 8
    assert embedder_of(settings, "own").tokens == embedder_of(settings, "other").tokens == 64
    assert json.dumps(embedder_of(settings, "m").name).count("/8/") == 1

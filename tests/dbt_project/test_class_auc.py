"""AUC of models with several classes, from the probabilities of their predictions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.control import policies
from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from headrace.trainer.compare import evaluate
from tests.support.closeness import close
from tests.support.oracle import class_auc, macro_auc, probabilities_of, score_bin
from tests.support.policies import set_policies
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, START, send

NAMES = ["Art", "sport", "wine", "höhe ✓", "1"]
CLASSES = [name.lower() for name in NAMES]
Chances = list[tuple[str, dict[str, float]]]
ROLES = [("v1", "champion"), ("v2", "canary"), ("v3", "shadow")]


@pytest.fixture
def log(engine: Engine) -> Iterator[EventLog]:
    with EventLog(engine) as opened:
        yield opened


def event(topic: Topic, hours: float, **fields: Any) -> tuple[Topic, Event]:
    time = (START + timedelta(hours=hours)).isoformat()
    return topic, parse(topic, {"event_time": time, **fields})


def classified(
    seed: int, number: int
) -> tuple[list[tuple[Topic, Event]], dict[tuple[str, str], Chances]]:
    """Events of a model of five classes, and (label, probabilities) that count, by role."""
    rng = np.random.default_rng(seed)
    events: list[tuple[Topic, Event]] = []
    chances: dict[tuple[str, str], Chances] = {role: [] for role in ROLES}
    for i in range(number):
        truth = int(rng.integers(5))
        version, variant = role = ROLES[int(rng.integers(3))]
        p = rng.dirichlet(np.where(np.arange(5) == truth, 1.0, 0.5))
        given = {NAMES[k]: float(p[k]) for k in range(5) if rng.random() < 0.9}
        if rng.random() < 0.1:
            given |= {f"other {k}": 0.0 for k in range(100)}
        _, asked = event(
            "inference", i * 0.05, request_id=f"r{i}", model="m", model_version=version,
            variant=variant, prediction=NAMES[int(p.argmax())], score=float(p.max()),
            probabilities=given,
        )  # fmt: skip
        events.append(("inference", asked))
        label = None
        if rng.random() < 0.2:  # said before, and revised
            label = CLASSES[0]
            early = {"label": label, "feedback_id": f"e{i}"}
            events.append(event("feedback", i * 0.05, request_id=f"r{i}", **early))
        if rng.random() < 0.8:
            label = CLASSES[truth]
            said = {"label": label.upper(), "feedback_id": f"f{i}"}
            events.append(event("feedback", 20 + i * 0.05, request_id=f"r{i}", **said))
        if label and 3 <= len(given) <= 100:
            chances[role].append((label, probabilities_of(asked)))  # type: ignore[arg-type]
    random.Random(seed).shuffle(events)
    return events, chances


def check_value(row: dict[str, Any], name: str, chances: Chances) -> None:
    assert close(row[name], macro_auc(chances, score_bin)), (row, name)


@EXAMPLES
@given(seed=st.integers(0, 2**16), number=st.integers(1, 150))
def test_classes_against_the_rest(engine: Engine, log: EventLog, seed: int, number: int) -> None:
    empty(engine)
    policies.write(engine, "*", {"positive_label": ""})
    events, chances = classified(seed, number)
    send(log, [event("model_events", 0, model="m", model_version="v1", event="promoted")])
    began = {"model": "m", "model_version": "v2", "event": "canary", "traffic": 0.3}
    send(log, [event("model_events", 0, **began)])
    for start in range(0, len(events), 100):
        send(log, events[start : start + 100])
    check_versions(engine, chances)
    check_sides(engine, chances)


def check_versions(engine: Engine, chances: dict[tuple[str, str], Chances]) -> None:
    rows = engine.rows(
        "select distinct on (variant) * from headrace.model_performance "
        "where window_name = '30 days' order by variant, window_end desc"
    )
    for row in rows:
        mine = chances[row["model_version"], row["variant"]]
        check_value(row, "macro_auc", mine)
        if (exact := macro_auc(mine, float)) is not None:
            assert abs(row["macro_auc"] - exact) <= row["macro_auc_error"] + 1e-12
            assert row["macro_auc_null_because"] is None
        elif mine:
            assert row["macro_auc_null_because"] == "all labels are of one class"
        else:
            assert "3 to 100" in row["macro_auc_null_because"]
    for row in engine.rows("select * from headrace.class_performance"):
        mine = chances[row["model_version"], row["variant"]]
        assert close(row["auc"], class_auc(mine, row["class"], score_bin)), row
    set_policies(engine, metric_window="30 days")
    for row in engine.rows("select * from headrace.recent_performance"):
        served = [("v1", "champion")] if row["model_version"] else ROLES[:2]
        check_value(row, "macro_auc", [one for role in served for one in chances[role]])
        assert row["compared_auc"] == row["macro_auc"]


def check_sides(engine: Engine, chances: dict[tuple[str, str], Chances]) -> None:
    """A canary and its champion, and a shadow version, by the same measure."""
    for row in engine.rows("select * from headrace.canary_verdict"):
        if row["labels"] + row["champion_labels"] > 0:
            check_value(row, "macro_auc", chances["v2", "canary"])
            check_value(row, "champion_macro_auc", chances["v1", "champion"])


def test_the_views_agree_with_the_gate(engine: Engine, log: EventLog) -> None:
    rng = np.random.default_rng(3)
    names = ["a", "b", "c", "d"]
    p = rng.dirichlet(np.full(4, 0.6), size=300)
    truth = [names[rng.choice(4, p=row)] for row in p]
    events = []
    for i in range(300):
        fields = {"prediction": names[p[i].argmax()], "model": "m", "model_version": "v1"}
        given = dict(zip(names, map(float, p[i]), strict=True))
        events.append(
            event("inference", i / 100, request_id=f"r{i}", probabilities=given, **fields)
        )
        events.append(event("feedback", 1 + i / 100, request_id=f"r{i}", label=truth[i]))
        shadow = {**fields, "model_version": "v2", "variant": "shadow", "shadow_of": f"r{i}"}
        even = dict.fromkeys(names, 0.25)
        events.append(event("inference", i / 100, request_id=f"s{i}", probabilities=even, **shadow))
    send(log, events)
    (row,) = engine.rows("select * from headrace.shadow_agreement")
    gate = evaluate(p, truth, names)
    assert row["served_macro_auc"] == pytest.approx(gate.auc, abs=0.005)
    assert row["shadow_macro_auc"] == 0.5


def test_a_class_that_is_never_predicted_has_an_f1_of_0(engine: Engine, log: EventLog) -> None:
    for i, label in enumerate("aaaaab"):
        told = {"request_id": f"r{i}", "model": "m", "prediction": "a"}
        send(
            log,
            [event("inference", 0, **told), event("feedback", 1, request_id=f"r{i}", label=label)],
        )
    (row,) = engine.rows("select macro_f1 from headrace.recent_performance")
    assert row["macro_f1"] == pytest.approx((10 / 11 + 0) / 2)


def test_a_lost_macro_auc_is_due(engine: Engine, log: EventLog) -> None:
    """Five classes, no positive label: the trigger compares the mean, as the gate did."""
    set_policies(engine, learn="on", min_sample="50", min_new_labels="100000")
    told = {"baseline_auc": 0.95, "baseline_rows": 5000}
    send(log, [event("model_events", 0, model="m", model_version="v1", event="promoted",
                     metrics=told)])  # fmt: skip
    send(log, classified(1, 400)[0])
    (row,) = engine.rows("select * from headrace.retrain_trigger")
    (recent,) = engine.rows("select * from headrace.recent_performance")
    assert recent["auc"] is None
    assert row["recent_auc"] == recent["macro_auc"] < 0.9
    assert 0.01 < recent["macro_auc_stderr"] < 0.05
    assert (row["due"], "against 0.950 at promotion" in row["reason"]) == (True, True)
    dropped = "select 1 from headrace.alerts where alert = 'metric_drop' and state = 'firing'"
    assert engine.rows(dropped)


@pytest.mark.parametrize(
    ("task", "given", "because"),
    [
        ("regression", {"a": 0.1, "b": 0.2, "c": 0.7}, "the task is not classification"),
        (None, {"a": 0.5, "b": 0.5}, "3 to 100"),
        (None, None, "3 to 100"),
    ],
)
def test_why_there_is_none(
    engine: Engine, log: EventLog, task: str | None, given: dict[str, float] | None, because: str
) -> None:
    asked = {"request_id": "r", "model": "m", "prediction": "a", "probabilities": given}
    send(log, [event("inference", 0, **asked), event("feedback", 1, request_id="r", label="b")])
    policies.write(engine, "m", {"task": task})
    rows = engine.rows("select * from headrace.model_performance where window_name = '1 hour'")
    rows += engine.rows("select * from headrace.recent_performance")
    assert len(rows) == 2
    for row in rows:
        assert row["macro_auc"] is None
        assert because in row["macro_auc_null_because"]

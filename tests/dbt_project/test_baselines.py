"""A champion of somebody else's is measured by the baseline that its own events tell."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.policies import set_policies
from tests.support.stored import empty
from tests.support.streams import START, send

TOLD = {
    "baseline_auc": 0.95, "positive_label": "Fraud",
    "train_from": "2024-02-01T00:00:00Z", "train_to": "2024-02-20T12:00:00+00:00",
}  # fmt: skip
SECONDS = {**TOLD, "train_from": 1706745600, "train_to": 1708430400.0}


def told(*steps: tuple[str, dict[str, Any]]) -> list[tuple[Topic, Event]]:
    step = {"model": "m", "model_version": "theirs-7"}
    return [
        (
            "model_events",
            parse("model_events", {
                **step, "event": event, "metrics": metrics,
                "event_time": (START + timedelta(seconds=number)).isoformat(),
            }),
        )
        for number, (event, metrics) in enumerate(steps)
    ]  # fmt: skip


def served() -> list[tuple[Topic, Event]]:
    """Predictions whose scores say less than they did: an AUC of 0.75."""
    events: list[tuple[Topic, Event]] = []
    for number in range(200):
        row = {"request_id": f"r{number}", "event_time": (START + timedelta(minutes=1)).isoformat()}
        fraud, high = number % 2 == 0, number % 4 < 3 if number % 2 == 0 else number % 4 == 1
        inference = {
            **row, "model": "m", "model_version": "theirs-7", "score": 0.9 if high else 0.1,
            "prediction": "fraud" if high else "legit",
        }  # fmt: skip
        events.append(("inference", parse("inference", inference)))
        label = {**row, "label": "FRAUD" if fraud else "legit"}
        events.append(("feedback", parse("feedback", label)))
    return events


@pytest.mark.parametrize(
    "steps",
    [
        [("trained", SECONDS), ("promoted", {})],
        [("promoted", TOLD)],
        [("promoted", SECONDS), ("canary", {"note": 1}), ("promoted", {"note": 2})],
        [("trained", {"baseline_auc": 0.5, "train_from": 0, "train_to": 9}), ("promoted", TOLD)],
    ],
)
def test_a_lost_auc_is_due_whoever_told_the_baseline(
    engine: Engine,
    log: EventLog,
    steps: list[tuple[str, dict[str, Any]]],
) -> None:
    empty(engine)
    set_policies(engine, "*", positive_label="")
    set_policies(engine, "m", learn="on", cooldown="0 seconds", min_new_labels="1000000")
    send(log, told(*steps))
    send(log, served())
    (trigger,) = engine.rows("select * from headrace.retrain_trigger")
    assert trigger["due"] is (trigger["recent_auc"] < 0.9)
    assert trigger["reason"] == f"auc {trigger['recent_auc']:.3f} against 0.950 at promotion"
    (drop,) = engine.rows("select * from headrace.metric_drop")
    # Hanley and McNeil of 100 scores of each class, more than DeLong's 0.0308
    error = math.sqrt((0.1875 + 99 * (0.0375 + 0.5625 / 0.875 - 0.5625)) / 100**2)
    assert (drop["metric"], drop["status"], drop["baseline"]) == ("auc", "dropped", 0.95)
    assert drop["recent_stderr"] == drop["baseline_stderr"] == pytest.approx(error)
    (positive,) = engine.rows("select positive_label, source from headrace.positive_labels")
    assert positive == {"positive_label": "fraud", "source": "version"}
    (window,) = engine.rows("select reference_start, reference_end from headrace.drift_windows")
    assert [time.timestamp() for time in window.values()] == [1706745600, 1708430400]


def test_a_drop_within_chance_is_not_due(engine: Engine, log: EventLog) -> None:
    """An AUC of 0.75 on 200 labels is a sixteenth below a baseline of 0.8: 1.2 standard errors."""
    empty(engine)
    set_policies(engine, "*", positive_label="")
    set_policies(engine, "m", learn="on", cooldown="0 seconds", min_new_labels="1000000")
    send(log, told(("promoted", {**TOLD, "baseline_auc": 0.8, "baseline_rows": 500})))
    send(log, served())
    (trigger,) = engine.rows("select due, recent_auc, reason from headrace.retrain_trigger")
    assert trigger == {"due": False, "recent_auc": 0.75, "reason": None}
    assert engine.rows("select 1 from headrace.alerts where alert = 'metric_drop'") == []
    (drop,) = engine.rows("select * from headrace.metric_drop")
    assert drop["status"] == "stable" and drop["relative_loss"] == pytest.approx(0.0625)
    assert drop["baseline_stderr"] == pytest.approx(drop["recent_stderr"] * math.sqrt(0.4))


@pytest.mark.parametrize(
    "time", ["2024-02-30T00:00:00Z", "now", "1969-12-31", "3000-01-01", "2024-02-01T25:00", ""]
)
def test_a_time_that_is_none_is_no_reference(
    engine: Engine,
    log: EventLog,
    time: str,
) -> None:
    send(log, told(("promoted", {"train_from": time, "train_to": time})))
    send(log, served())
    (window,) = engine.rows("select reference_start from headrace.drift_windows")
    assert window["reference_start"] == START + timedelta(minutes=1)

"""Whatever others write into metrics and policies, every view can still be read."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog

STRANGE: list[Any] = [1e300, -1, "x", None, True, [1], {"a": 1}, 1e18]


@pytest.mark.parametrize("value", STRANGE)
def test_views_survive_foreign_metrics(engine: Engine, value: Any) -> None:
    names = (
        "train_from", "train_to", "baseline_auc", "claimed_at", "gated_at", "first_feedback_at",
        "last_feedback_at", "positive_label", "examples", "gate",
    )  # fmt: skip
    events = [
        parse(
            "model_events",
            {
                "model": "m",
                "model_version": "1",
                "event": name,
                "metrics": dict.fromkeys(names, value),
            },
        )
        for name in ("trained", "promoted")
    ]
    inference = {
        "model": "m", "model_version": "1", "features": {"x": 1}, "score": 1, "prediction": 1,
    }  # fmt: skip
    with EventLog(engine) as log:
        log.append("model_events", events)
        log.append("inference", [parse("inference", inference)])
    views = engine.rows("select viewname from pg_views where schemaname = 'headrace'")
    assert len(views) >= 15
    for row in views:
        engine.rows(f"select * from headrace.{row['viewname']}")


@pytest.mark.parametrize(
    ("policy", "value"),
    [
        ("cooldown", "soon"), ("cooldown", "-1 day"), ("cooldown", "1000000 years"),
        ("min_sample", "many"), ("min_sample", "9" * 400), ("min_sample", "NaN"),
        ("gate_metric", "luck"), ("learn", "maybe"), ("no_such_policy", "1"),
    ],
)  # fmt: skip
def test_policies_that_no_view_could_read_are_refused(
    engine: Engine, policy: str, value: str
) -> None:
    with engine.connect() as connection, pytest.raises(psycopg.IntegrityError):
        connection.execute("insert into control.policies values ('m', %s, %s)", [policy, value])

"""The flywheel by day, and what a model is worth, against a naive recompute."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from headrace.engine import Engine
from headrace.events.contract import ModelEvent
from headrace.events.log import EventLog
from tests.support.closeness import SKETCH, close
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle, quantile
from tests.support.policies import set_policies
from tests.support.rewards import (
    EXAMPLES,
    Row,
    Story,
    compared,
    daily,
    floor,
    in_order,
    recent,
    rewards,
    same,
    stories,
    verdicts,
)
from tests.support.stored import empty
from tests.support.units import LEAST, unit_effects

DAY = 86400
PUBLISHED = ("shadow", "canary", "promoted")


def holdouts(oracle: Oracle, min_sample: int, alpha: float = 0.05) -> dict[str, Row]:
    rows = {}
    for model in {event.model for event in oracle.inference.values()}:
        shown = [
            event
            for event in oracle.of(model)
            if event.variant != "shadow" and recent(oracle, model, utc(event.event_time))
        ]
        if not shown:
            continue
        held = [event for event in shown if event.variant == "holdout"]
        rest = [event for event in shown if event.variant != "holdout"]
        whole = [
            event
            for event in oracle.of(model)
            if event.variant != "shadow"
            and floor(utc(event.event_time), DAY) + timedelta(days=31) > oracle.clock(model)
        ]
        effects = unit_effects(
            oracle,
            [event for event in whole if event.variant != "holdout"],
            [event for event in whole if event.variant == "holdout"],
        )
        row = compared(daily(oracle, rest), daily(oracle, held), "holdout", effects)
        row |= {"predictions": len(rest), "holdout_predictions": len(held)}
        p = row["always_valid_p_value"]
        if not held:
            row["status"] = "no holdout"
        elif min(row["labels"], row["holdout_labels"]) < min_sample:
            row["status"] = "too few labels"
        elif (row["unit_groups"] or LEAST) < LEAST:
            row["status"] = "too few users"
        elif p is None or p >= alpha:
            row["status"] = "even"
        else:
            row["status"] = "better" if row["difference"] > 0 else "worse"
        rows[model] = row
    return rows


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy, where one side is constant
@EXAMPLES
@given(story=stories())
def test_holdout_comparison(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    set_policies(engine, min_sample="2")
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.holdout_comparison")
        actual = {row["model"]: row for row in rows}
        wanted = holdouts(oracle, min_sample=2)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            same(actual[key], want)

    story.tell(log, check)


def days(oracle: Oracle, lives: list[ModelEvent]) -> dict[tuple[str, datetime], Row]:
    served: dict[tuple[str, datetime], list[Any]] = defaultdict(list)
    known: dict[tuple[str, datetime], list[Any]] = defaultdict(list)
    delays: dict[tuple[str, datetime], list[float]] = defaultdict(list)
    for event in oracle.inference.values():
        asked = utc(event.event_time)
        if event.variant != "shadow":
            served[event.model, floor(asked, DAY)].append(event)
        held = oracle.labels.get(event.request_id)
        if event.variant != "shadow" and held:
            if held.event and held.known_at:
                hours = (held.known_at - asked).total_seconds() / 3600
                delays[event.model, floor(held.known_at, DAY)].append(hours)
            if held.settled_at:
                known[event.model, floor(held.settled_at, DAY)].append(event)
    steps: dict[tuple[str, datetime], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    published = set()
    for life in in_order(lives):
        step = "published" if life.event in PUBLISHED else life.event
        if step == "published" and (life.model, life.model_version) in published:
            continue
        if step == "published":
            published.add((life.model, life.model_version))
        steps[life.model, floor(utc(life.event_time), DAY)][step].add(life.model_version)

    rows = {}
    for model, day in served.keys() | known.keys() | steps.keys():
        if not any(event.model == model for event in oracle.inference.values()):
            continue
        today = floor(oracle.clock(model), DAY)
        if not today - timedelta(days=29) <= day <= today:
            continue
        key = (model, day)
        judged = sum(event.request_id in oracle.settled for event in served[key])
        earned, right = rewards(oracle, known[key]), verdicts(oracle, known[key])
        rows[key] = {
            "predictions": len(served[key]),
            "judged_predictions": judged,
            "label_coverage": judged / len(served[key]) if served[key] else None,
            "labels": len(known[key]),
            "accuracy": sum(right) / len(right) if right else None,
            "mean_reward": float(np.mean(earned)) if earned else None,
            "label_delay_p50_hours": quantile(delays[key], 0.50),
            "label_delay_p95_hours": quantile(delays[key], 0.95),
            **{
                f"versions_{step}": len(steps[key][step])
                for step in ("trained", "published", "rolled_back")
            },
        }
    return rows


@EXAMPLES
@given(story=stories())
def test_flywheel_health(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.flywheel_health")
        actual = {(row["model"], row["day"]): row for row in rows}
        wanted = days(oracle, story.lives)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            for name in ("label_delay_p50_hours", "label_delay_p95_hours"):
                assert close(actual[key][name], want.pop(name), rel=SKETCH), (key, name)
            same(actual[key], want)

    story.tell(log, check)

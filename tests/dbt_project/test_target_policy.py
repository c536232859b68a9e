"""The value of a logged policy: a naive recompute, and simulated logs whose truth is known."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.events.contract import Inference, Topic, parse
from headrace.events.log import EventLog
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle
from tests.support.policies import set_policies
from tests.support.rewards import EXAMPLES, Row, Story, recent, same, stories
from tests.support.stored import empty
from tests.support.streams import START, send

Z, FAR = 1.959963984540054, 3.290526731491926
MIN_SAMPLE = 3
Key = tuple[Any, ...]


def target_policy_value(oracle: Oracle) -> dict[Key, Row]:
    """Columns by (model, breakdown, model_version, segment, position)."""
    parts: dict[Key, list[Inference]] = defaultdict(list)
    for request_id in oracle.settled:
        event = oracle.inference[request_id]
        if event.propensity is None or event.target_propensity is None:
            continue
        if event.variant == "shadow" or not recent(oracle, event.model, utc(event.event_time)):
            continue
        place = event.position and min(event.position, 100)
        parts[event.model, "model", None, None, None].append(event)
        parts[event.model, "version", event.model_version, None, None].append(event)
        parts[event.model, "segment", event.model_version, event.segment, None].append(event)
        parts[event.model, "position", event.model_version, None, place].append(event)
    return {key: estimate(oracle, events) for key, events in parts.items()}


def estimate(oracle: Oracle, events: list[Inference]) -> Row:
    n = len(events)
    r = np.array([oracle.reward(event) for event in events])
    w = np.array([round((e.target_propensity or 0) / (e.propensity or 1), 6) for e in events])

    def error(values: Any) -> float | None:
        return float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None

    total = float(w.sum())
    snips = float((w * r).sum()) / total if total else None
    row: Row = {
        "logged": n,
        "effective_rows": total**2 / float((w**2).sum()) if total else None,
        "mean_weight": float(w.mean()), "mean_weight_stderr": error(w),
        "mean_reward": float(r.mean()), "mean_reward_stderr": error(r),
        "ips": float((w * r).mean()), "ips_stderr": error(w * r),
        "snips": snips,
        "snips_stderr": snips
        if snips is None
        else float(np.sqrt((w**2 * (r - snips) ** 2).sum())) / total,
    }  # fmt: skip
    for name in ("mean_reward", "ips", "snips"):
        reach = None if row[f"{name}_stderr"] is None else Z * row[f"{name}_stderr"]
        row[f"{name}_low"] = None if reach is None else row[name] - reach
        row[f"{name}_high"] = None if reach is None else row[name] + reach
    apart = abs(row["mean_weight"] - 1) - FAR * (row["mean_weight_stderr"] or 0)
    if (row["effective_rows"] or 0) < MIN_SAMPLE:
        row["status"] = "too few rows"
    else:
        row["status"] = "weights off" if apart > 1e-6 else "estimated"
    return row


@EXAMPLES
@given(story=stories())
def test_target_policy_value(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    set_policies(engine, min_sample=str(MIN_SAMPLE))
    story.govern(engine)
    names = ("model", "breakdown", "model_version", "segment", "position")

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.target_policy_value")
        actual = {tuple(row[name] for name in names): row for row in rows}
        wanted = target_policy_value(oracle)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            same(actual[key], want)

    story.tell(log, check)


def simulated(
    models: int, n: int, chances: tuple[float, float], target: tuple[float, float], seed: int
) -> list[tuple[Topic, Any]]:
    """Logs of items 0 and 1 that earn 0.2 and 0.6, chosen by `chances` in each context.

    In context 0 the policy in use chooses item 0 with chances[0], in context 1 with chances[1], and
    the other policy with target[0] and target[1]. In context 1 the items earn half.
    """
    draw = np.random.default_rng(seed)
    events: list[tuple[Topic, Any]] = []
    for model in range(models):
        for i in range(n):
            context = int(draw.random() < 0.5)
            item = int(draw.random() >= chances[context])
            name, time = f"{model}-{i}", (START + timedelta(seconds=20 * i)).isoformat()
            p, q = (x[context] if item == 0 else 1 - x[context] for x in (chances, target))
            asked: Row = {
                "request_id": name, "event_time": time, "model": f"m{model}", "item_id": f"i{item}",
                "prediction": f"i{item}", "propensity": p, "target_propensity": q,
                "segment": f"c{context}", "position": 1 + i % 3,
            }  # fmt: skip
            earned = draw.random() < (0.2, 0.6)[item] / (1 + context)
            said: Row = {"feedback_id": name, "request_id": name, "event_time": time}
            said |= {"kind": "click", "value": float(earned)}
            events += [
                ("inference", parse("inference", asked)),
                ("feedback", parse("feedback", said)),
            ]
    return events


def test_the_truth_is_covered(engine: Engine, log: EventLog) -> None:
    models, target = 40, (0.2, 0.7)
    send(log, simulated(models, 400, (0.6, 0.4), target, seed=15))
    by_context = [q * 0.2 / (1 + c) + (1 - q) * 0.6 / (1 + c) for c, q in enumerate(target)]
    truth = {"c0": by_context[0], "c1": by_context[1], None: sum(by_context) / 2}
    rows = engine.rows("select * from headrace.target_policy_value where breakdown != 'version'")
    assert {row["status"] for row in rows} <= {"estimated", "too few rows", "weights off"}
    assert np.mean([row["status"] == "weights off" for row in rows]) < 0.02
    for name in ("ips", "snips"):
        covered = [
            row[f"{name}_low"] <= truth[row["segment"]] <= row[f"{name}_high"] for row in rows
        ]
        assert len(covered) == models * 6
        # six rows of each model are of the same predictions
        assert 0.9 <= np.mean(covered) <= 0.99, name
    # what the policy in use earned is far from it
    missed = [
        not row["mean_reward_low"] <= truth[None] <= row["mean_reward_high"]
        for row in rows if row["breakdown"] == "model"
    ]  # fmt: skip
    assert np.mean(missed) > 0.2


def test_what_is_never_chosen_is_seen(engine: Engine, log: EventLog) -> None:
    """The policy in use never chooses item 1 in context 0; the other one mostly does."""
    send(log, simulated(1, 400, (1.0, 0.5), (0.2, 0.5), seed=16))
    statuses = {
        row["segment"]: row["status"]
        for row in engine.rows(
            "select segment, status from headrace.target_policy_value where breakdown = 'segment'"
        )
    }
    assert statuses == {"c0": "weights off", "c1": "estimated"}


def test_the_largest_segments_are_shown(engine: Engine, log: EventLog) -> None:
    events: list[tuple[Topic, Any]] = []
    for i in range(240):
        name = f"r{i}"
        asked: Row = {"request_id": name, "event_time": START.isoformat(), "model": "m"}
        asked |= {"propensity": 0.5, "target_propensity": 0.5, "segment": f"s{i % 120}"}
        asked |= {"position": 99 + i % 3, "prediction": "a"}
        asked["segment"] = "large" if i % 2 else asked["segment"]
        said: Row = {"request_id": name, "event_time": START.isoformat(), "kind": "click"}
        events += [
            ("inference", parse("inference", asked)), ("feedback", parse("feedback", said)),
        ]  # fmt: skip
    send(log, events)
    rows = engine.rows(
        "select breakdown, segment, position, logged from headrace.target_policy_value "
        "order by breakdown, logged desc, position"
    )
    segments = [row for row in rows if row["breakdown"] == "segment"]
    assert segments[0]["segment"] == "large" and segments[0]["logged"] == 120
    assert len(segments) == 61
    places = {row["position"]: row["logged"] for row in rows if row["breakdown"] == "position"}
    assert places == {99: 80, 100: 160}


@pytest.mark.parametrize(
    ("field", "value"),
    [("target_propensity", -0.1), ("target_propensity", 1.5), ("position", 0), ("position", 1.5),
     ("position", "first"), ("position", 1_000_001), ("position", True)],
)  # fmt: skip
def test_bad_values_are_named(field: str, value: Any) -> None:
    with pytest.raises(ContractError, match=field):
        parse("inference", {"model": "m", field: value})

"""Arms and off-policy values, against each row by NumPy and against a simulated truth."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from headrace.engine import Engine
from headrace.events.contract import Inference, Topic, parse
from headrace.events.labels import class_of
from headrace.events.log import EventLog
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle, as_class
from tests.support.policies import set_policies
from tests.support.rewards import (
    EXAMPLES,
    Row,
    Story,
    interval,
    is_share,
    recent,
    rewards,
    same,
    stories,
)
from tests.support.stored import empty
from tests.support.streams import START, send

Z = 1.959963984540054
MIN_SAMPLE = 3


def pulls(oracle: Oracle) -> dict[str, list[Inference]]:
    """The labelled predictions of every model in its window, without shadows."""
    found: dict[str, list[Inference]] = defaultdict(list)
    for request_id in oracle.settled:
        event = oracle.inference[request_id]
        if event.variant != "shadow" and recent(oracle, event.model, utc(event.event_time)):
            found[event.model].append(event)
    return found


def arm_of(event: Inference) -> str | None:
    said = event.prediction
    if said is None and event.propensity is not None:
        said = event.item_id
    if event.propensity is None or said is None or len(str(said)) <= 3:
        return as_class(said)
    return class_of(str(said))


def wilson_of(share: float, n: float) -> tuple[float, float]:
    """The roots of (p - share)^2 = z^2 p (1 - p) / n."""
    low, high = sorted(np.roots([1 + Z**2 / n, -2 * share - Z**2 / n, share**2]).real)
    return float(low), float(high)


def arm_stats(oracle: Oracle) -> dict[tuple[str, str | None], Row]:
    rows: dict[tuple[str, str | None], Row] = {}
    for model in {event.model for event in oracle.inference.values()}:
        shown = [
            event
            for event in oracle.of(model)
            if event.variant != "shadow" and recent(oracle, model, utc(event.event_time))
        ]
        by_arm: dict[str | None, list[Inference]] = defaultdict(list)
        for event in shown:
            if event.request_id in oracle.settled:
                by_arm[arm_of(event)].append(event)
        every = [event for pulled in by_arm.values() for event in pulled]
        weighted = all(event.propensity for event in every)
        for arm, pulled in by_arm.items():
            values = rewards(oracle, pulled)
            w = np.array([1 / ((weighted and event.propensity) or 1) for event in pulled])
            n, share = len(values), is_share(values)
            mean, worth = float(np.average(values, weights=w)), float(w.sum() ** 2 / (w**2).sum())
            low, high = interval(values, share)
            if weighted and share:
                low, high = wilson_of(mean, worth)
            elif weighted and n > 1:
                reach = Z * float(np.sqrt((w**2 * (np.array(values) - mean) ** 2).sum()) / w.sum())
                low, high = mean - reach, mean + reach
            unit = all(0 <= value <= 1 for value in values)
            rows[model, arm] = {
                "pulls": n,
                "share_of_pulls": n / len(every),
                "weighting": "inverse propensity" if weighted else "none",
                "effective_pulls": worth,
                "mean_reward": mean,
                "reward_variance": float(np.var(values, ddof=1)) if n > 1 else None,
                "mean_reward_low": low,
                "mean_reward_high": high,
                "ucb1": mean + math.sqrt(2 * math.log(len(every)) / worth),
                "thompson_alpha": 1 + worth * mean if unit else None,
                "thompson_beta": 1 + worth * (1 - mean) if unit else None,
            }
    return rows


@EXAMPLES
@given(story=stories())
def test_arm_stats(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.arm_stats")
        actual = {(row["model"], row["arm"]): row for row in rows}
        wanted = arm_stats(oracle)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            same(actual[key], want)

    story.tell(log, check)


def estimates(action: Any, reward: Any, propensity: Any, arm: str, q: float) -> Row:
    """Each estimator by its definition, a value a row, with the standard error of their mean."""
    n = len(action)
    w = np.where(action == arm, 1 / propensity, 0.0)
    terms = {"ips": w * reward, "dr": q + w * (reward - q)}
    row: Row = {
        "logged": n,
        "matched": int((action == arm).sum()),
        "effective_rows": float(w.sum() ** 2 / (w**2).sum()),
        "snips": float((w * reward).sum() / w.sum()),
    }
    for name, values in terms.items():
        row[name] = float(values.mean())
        row[f"{name}_stderr"] = float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None
    # The delta method: the ratio's error is that of w (r - snips), divided by the mean of w.
    row["snips_stderr"] = float(np.sqrt((w**2 * (reward - row["snips"]) ** 2).sum()) / w.sum())
    return row


def with_intervals(row: Row) -> Row:
    for name in ("ips", "snips", "dr"):
        reach = None if row[f"{name}_stderr"] is None else Z * row[f"{name}_stderr"]
        row[f"{name}_low"] = None if reach is None else row[name] - reach
        row[f"{name}_high"] = None if reach is None else row[name] + reach
    row["status"] = "too few rows" if row["effective_rows"] < MIN_SAMPLE else "estimated"
    return row


def policy_value(oracle: Oracle) -> dict[tuple[str, str], Row]:
    rows: dict[tuple[str, str], Row] = {}
    for model, events in pulls(oracle).items():
        earned = np.array([oracle.reward(event) for event in events])
        arms = np.array([arm_of(event) or "" for event in events])
        logged = np.array([event.propensity is not None for event in events])
        p = np.array([event.propensity or 1 for event in events])
        for arm in set(arms[logged]) - {""}:
            q = float(earned[arms == arm].mean())
            rows[model, f"always {arm}"] = with_intervals(
                estimates(arms[logged], earned[logged], p[logged], arm, q)
            )
        n, mean = len(events), float(earned.mean())
        error = float(earned.std(ddof=1) / math.sqrt(n)) if n > 1 else None
        done: Row = {"logged": n, "matched": n, "effective_rows": float(n)}
        for name in ("ips", "snips", "dr"):
            done |= {name: mean, f"{name}_stderr": error}
        rows[model, "as logged"] = with_intervals(done)
    return rows


@EXAMPLES
@given(story=stories())
def test_policy_value(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    set_policies(engine, min_sample=str(MIN_SAMPLE))
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.policy_value")
        actual = {(row["model"], row["target_policy"]): row for row in rows}
        wanted = policy_value(oracle)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            same(actual[key], want)

    story.tell(log, check)


def test_values_cover_the_truth(engine: Engine, log: EventLog) -> None:
    """Twenty loggers that know a hidden context; the arms' true values are known.

    The logger prefers the arm that suits the context, so that an arm's own mean is far from what
    it would earn always; the estimators have to make up for it.
    """
    draw = np.random.default_rng(11)
    chance = np.array([[0.9, 0.2], [0.3, 0.6]])  # of a reward, by context and arm
    truth = chance.mean(axis=0)
    n, models = 400, 20
    events: list[tuple[Topic, Any]] = []
    for model in range(models):
        context = draw.integers(0, 2, n)
        right = draw.random(n) < 0.8
        arm = np.where(right, context, 1 - context)
        reward = draw.random(n) < chance[context, arm]
        for i in range(n):
            name, time = f"{model}-{i}", (START + timedelta(minutes=i)).isoformat()
            asked: Row = {
                "request_id": name, "event_time": time, "model": f"m{model}",
                "variant": "explore", "prediction": f"arm{arm[i]}",
                "propensity": 0.8 if right[i] else 0.2,
            }  # fmt: skip
            said: Row = {"feedback_id": name, "request_id": name, "event_time": time}
            said |= {"kind": "click", "value": float(reward[i])}
            events += [
                ("inference", parse("inference", asked)),
                ("feedback", parse("feedback", said)),
            ]
    send(log, events)
    rows = engine.rows("select * from headrace.policy_value where target_policy != 'as logged'")
    assert len(rows) == 2 * models
    assert {row["status"] for row in rows} == {"estimated"}
    for name in ("ips", "snips", "dr"):
        covered = 0
        errors = []
        for row in rows:
            value = truth[int(row["target_policy"][-1])]
            covered += row[f"{name}_low"] <= value <= row[f"{name}_high"]
            errors.append((row[name] - value) / row[f"{name}_stderr"])
        # 95 % of 40 intervals; fewer than 34 would come once in 2,000 times.
        assert covered >= 34, name
        # No bias: the mean of 40 standard scores.
        assert abs(np.mean(errors)) < 3 / math.sqrt(len(rows)), name
    # So do the means of the arms, which are weighted by the propensities.
    means = {row["arm"]: row["mean_reward"] for row in engine.rows(
        "select arm, avg(mean_reward) as mean_reward from headrace.arm_stats group by arm"
    )}  # fmt: skip
    assert [means["arm0"], means["arm1"]] == pytest.approx(list(truth), abs=0.03)


def test_rewards_that_no_double_holds(engine: Engine, log: EventLog) -> None:
    events: list[tuple[Topic, Any]] = []
    values = [1e300, -1e300, 1e-300, 1e300, 0.0]
    for i, value in enumerate(values):
        time = (START + timedelta(minutes=i)).isoformat()
        asked: Row = {"request_id": f"r{i}", "event_time": time, "model": "m", "prediction": "a"}
        asked |= {"propensity": 5e-324, "variant": "holdout" if i % 2 else "champion"}
        said: Row = {"request_id": f"r{i}", "event_time": time, "kind": "purchase", "value": value}
        events += [
            ("inference", parse("inference", asked)),
            ("feedback", parse("feedback", said)),
        ]
    send(log, events)
    for view in ("arm_stats", "policy_value", "holdout_comparison", "flywheel_health"):
        rows = engine.rows(f"select * from headrace.{view}")
        assert rows, view
        numbers = [v for row in rows for v in row.values() if isinstance(v, float)]
        assert all(map(math.isfinite, numbers)), view


def test_effective_rows_by_hand(engine: Engine, log: EventLog) -> None:
    """Two rows of weight 2 and one of weight 4, of four logged: by pencil."""
    events: list[tuple[Topic, Any]] = []
    for i, (arm, propensity, value) in enumerate(
        [("a", 0.5, 1.0), ("a", 0.5, 0.0), ("a", 0.25, 1.0), ("b", 0.5, 1.0)]
    ):
        asked: Row = {"request_id": f"r{i}", "event_time": START.isoformat(), "model": "m"}
        asked |= {"prediction": arm, "propensity": propensity}
        said: Row = {"request_id": f"r{i}", "event_time": START.isoformat()}
        said |= {"kind": "click", "value": value}
        events += [
            ("inference", parse("inference", asked)),
            ("feedback", parse("feedback", said)),
        ]
    send(log, events)
    (row,) = engine.rows("select * from headrace.policy_value where target_policy = 'always a'")
    assert row["ips"] == pytest.approx((2 + 0 + 4) / 4)
    assert row["snips"] == pytest.approx(6 / 8)
    assert row["dr"] == pytest.approx(2 / 3 + (2 / 3 - 4 / 3 + 4 / 3) / 4)
    assert row["effective_rows"] == pytest.approx(64 / 24)
    assert row["status"] == "too few rows"


def test_no_arm_vanishes(engine: Engine, log: EventLog) -> None:
    """Arms are called as the sender calls them: ids are numbers, sentences are long."""
    sentences = ["Which of our plans suits you? " * 4 + end for end in ("A", "B")]
    events: list[tuple[Topic, Any]] = []
    for i, arm in enumerate(["10457", "20911", *sentences, "19.99"]):
        asked: Row = {"request_id": f"r{i}", "event_time": START.isoformat(), "model": "m"}
        asked |= {"prediction": arm} | ({} if arm == "19.99" else {"propensity": 0.25})
        said: Row = {"request_id": f"r{i}", "event_time": START.isoformat(), "kind": "click"}
        events += [
            ("inference", parse("inference", asked)),
            ("feedback", parse("feedback", said)),
        ]
    send(log, events)
    rows = engine.rows("select arm, pulls from headrace.arm_stats")
    named = [f"{text[:31]} {hashlib.md5(text.encode()).hexdigest()}" for text in sentences]
    assert {row["arm"]: row["pulls"] for row in rows} == dict.fromkeys(
        ["10457", "20911", *named, None], 1
    )
    values = engine.rows("select * from headrace.policy_value where target_policy like 'always%'")
    assert {row["target_policy"] for row in values} == {
        f"always {arm}" for arm in ["10457", "20911", *named]
    }

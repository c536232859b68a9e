"""Experiments as analysts read them: guardrails by a naive recompute, and each verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from headrace.engine import Engine
from headrace.events.contract import Inference, ModelEvent, Topic, parse
from headrace.events.log import EventLog
from tests.support.always_valid import always_valid_p, holm
from tests.support.canary_oracle import is_slow
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle, as_class
from tests.support.policies import set_policies
from tests.support.rewards import (
    EXAMPLES,
    Row,
    Story,
    floor,
    in_order,
    recent,
    same,
    stories,
    wilson,
)
from tests.support.stored import empty
from tests.support.streams import START, send
from tests.support.units import group_of, kish

Arms = tuple[list[Inference], list[Inference]]
DAY = 86_400
LIMITS = {"errors": 0.05, "slow": 0.05, "reports": 0.01}


def experiments(
    oracle: Oracle, told: list[ModelEvent], hourly: bool = False, daily: bool = False
) -> dict[tuple[str, str], Arms]:
    """Treatment and control of each experiment; whole hours or days where panes have no less."""
    found: dict[tuple[str, str], Arms] = {}
    for model in {life.model for life in told}:
        latest = {life.model_version: life for life in in_order(told) if life.model == model}
        led = in_order(life for life in latest.values() if life.event == "promoted")
        champion = led[-1].model_version if led else None
        for version, life in latest.items():
            if life.event != "canary":
                continue
            at = utc(life.event_time)
            events = oracle.of(model)
            fine = (
                not hourly
                and events
                and floor(at, 3600) >= floor(oracle.clock(model), 3600) - timedelta(days=2)
            )
            first = floor(at, DAY if daily else 10 if fine else 3600)
            found[model, f"canary {version}"] = tuple(  # type: ignore[assignment]
                [e for e in events if (e.model_version, e.variant) == side
                 and utc(e.event_time) >= first]
                for side in ((version, "canary"), (champion, "champion"))
            )  # fmt: skip
    for model in {event.model for event in oracle.inference.values()}:
        clock = oracle.clock(model)
        served = [e for e in oracle.of(model) if e.variant != "shadow"]
        shown = [e for e in served if recent(oracle, model, utc(e.event_time))]
        if any(e.variant == "holdout" for e in shown):
            if daily:
                shown = [
                    e for e in served if floor(utc(e.event_time), DAY) + timedelta(days=31) > clock
                ]
            found[model, "holdback"] = (
                [e for e in shown if e.variant != "holdout"],
                [e for e in shown if e.variant == "holdout"],
            )
    return found


def rates(arms: Arms, which: Callable[[Inference], bool], of: Callable[[Inference], bool]) -> Any:
    """Events and trials of treatment and control."""
    trials = [[event for event in arm if of(event)] for arm in arms]
    return [(sum(map(which, arm)), len(arm)) for arm in trials]


def top(events: Iterable[Inference]) -> tuple[int, int]:
    counts = Counter(said for e in events if (said := as_class(e.prediction)) is not None)
    return max(counts.values(), default=0), sum(counts.values())


def guardrails(oracle: Oracle, told: list[ModelEvent]) -> dict[tuple[str, str, str], Row]:
    rows: dict[tuple[str, str, str], Row] = {}
    whole = experiments(oracle, told, hourly=True)
    for (model, name), arms in experiments(oracle, told).items():
        metrics = {
            "errors": rates(arms, lambda e: e.error is not None, lambda _: True),
            "slow": rates(
                arms, lambda e: is_slow(e.latency_ms or 0), lambda e: e.latency_ms is not None
            ),
        }
        tops = [top(arm) for arm in whole[model, name]]
        if any(trials for _, trials in tops):
            metrics["top class"] = tops
        for metric, ((events, trials), (base_events, base_trials)) in metrics.items():
            row: Row = {"trials": trials, "control_trials": base_trials}
            row["value"] = events / trials if trials else None
            row["control_value"] = base_events / base_trials if base_trials else None
            row["value_low"], row["value_high"] = wilson(events, trials)
            row["control_value_low"], row["control_value_high"] = wilson(base_events, base_trials)
            row["always_valid_p_value"] = None
            if trials and base_trials and metric in LIMITS:
                case = (events, trials, base_events, base_trials)
                row["always_valid_p_value"] = float(always_valid_p(case, 0.1))
            row["threshold"] = LIMITS.get(metric)
            rows[model, name, metric] = row
    return rows


def correct(metrics: dict[Any, Row], wanted: dict[Any, Row]) -> None:
    """Judge guardrails together, with the p-value of reports as it is found."""
    for key in {key[:2] for key in wanted}:
        family = {each: wanted[(*key, each)] for each in ("errors", "slow")}
        if (*key, "reports") in metrics:
            family["reports"] = metrics[(*key, "reports")]
        tested = {
            each: row["always_valid_p_value"]
            for each, row in family.items()
            if row["always_valid_p_value"] is not None
        }
        adjusted = dict(zip(tested, holm([*tested.values()]), strict=True))
        for each, row in ((each, row) for (*of, each), row in wanted.items() if tuple(of) == key):
            p = row["adjusted_p_value"] = adjusted.get(each)
            row["is_violated"] = bool(
                p is not None
                and p < 0.05
                and row["value"] > max(row["control_value"], row["threshold"])
            )


@EXAMPLES
@given(story=stories())
def test_experiments(engine: Engine, log: EventLog, story: Story) -> None:
    """Guardrails by event; rewards as canary_rewards and holdout_comparison have them."""
    empty(engine)
    set_policies(engine, min_sample="2")
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        metrics = {
            (row["model"], row["experiment"], row["metric"]): row
            for row in engine.rows("select * from headrace.ab_metrics")
        }
        wanted = guardrails(oracle, story.lives)
        names = set(experiments(oracle, story.lives))
        assert {key[:2] for key in metrics} == names
        assert {key for key in metrics if key[2] not in ("reward", "reports")} == wanted.keys()
        correct(metrics, wanted)
        for key, want in wanted.items():
            same(metrics[key], want)
        check_arms(engine, oracle, story.lives)
        verdicts = engine.rows("select * from headrace.ab_verdict")
        assert {(row["model"], row["experiment"]) for row in verdicts} == names
        agree(engine, verdicts, metrics)

    story.tell(log, check)


def check_arms(engine: Engine, oracle: Oracle, told: list[ModelEvent]) -> None:
    rows = engine.rows("select * from headrace.ab_assignments")
    arms = {(row["model"], row["experiment"], row["arm"]): row for row in rows}
    exact = experiments(oracle, told)
    whole = experiments(oracle, told, daily=True)
    assert len(arms) == len(rows) == 2 * len(exact)
    for (model, name), sides in exact.items():
        for arm, events, days in zip(
            ("treatment", "control"), sides, whole[model, name], strict=True
        ):
            row = arms[model, name, arm]
            assert row["exposures"] == len(events)
            settled = [e for e in days if e.request_id in oracle.settled]
            units = [e.user_id or e.session_id for e in settled]
            size = None
            if any(units):
                groups = [group_of(u or e.request_id) for u, e in zip(units, settled, strict=True)]
                size = kish(np.unique(groups, return_inverse=True)[1])
            assert row["unit_groups"] == (size if size is None else pytest.approx(size))


def agree(engine: Engine, verdicts: list[Row], metrics: dict[Any, Row]) -> None:
    """Each verdict is that of the views that act, where the split is as planned."""
    acted = {
        (row["model"], f"canary {row['model_version']}"): row
        for row in engine.rows("select * from headrace.canary_verdict")
    }
    worth = {
        (row["model"], "holdback"): row
        for row in engine.rows("select * from headrace.holdout_comparison")
    }
    named = {
        "worse": ("lower reward", "worse"), "better": ("higher reward", "better"),
        "guardrail": ("more errors", "slower"), "sample ratio": (),
    }  # fmt: skip
    for row in verdicts:
        key = (row["model"], row["experiment"])
        other = acted.get(key) or worth[key]
        reward = metrics[(*key, "reward")]
        # Each view adds up by itself, in an order of its own.
        shared = ("mean_reward", "difference", "always_valid_p_value", "design_effect")
        same(row, {name: other[name] for name in shared})
        same(reward, {"value_low": other["mean_reward_low"]})
        if row["difference"] is not None and row["control_mean_reward"]:
            assert row["lift"] == pytest.approx(row["difference"] / abs(row["control_mean_reward"]))
        if key in acted and row["verdict"] != "sample ratio" and other["champion_version"]:
            if row["verdict"] != "guardrail" and other["reason"] in named["guardrail"]:
                kind = {"more errors": "errors", "slower": "slow"}[other["reason"]]
                found = metrics[(*key, kind)]
                assert found["always_valid_p_value"] < 0.05 <= found["adjusted_p_value"]
            else:
                assert other["reason"] in named.get(row["verdict"], (row["verdict"],))
        elif key in worth and row["verdict"] in ("too few users", "too few labels"):
            assert other["status"] == row["verdict"]


def lives(**more: str) -> list[tuple[Topic, Any]]:
    return [
        ("model_events", parse("model_events", {"event_time": START.isoformat(), **life, **more}))
        for life in (
            {"model": "m", "model_version": "v1", "event": "promoted"},
            {"model": "m", "model_version": "v2", "event": "canary", "traffic": 0.5},
        )
    ]


def predictions(version: str, variant: str, number: int, **said: Any) -> list[tuple[Topic, Any]]:
    """So many predictions a minute apart, from an hour after the start.

    said  right, errors, slow, reports: shares of the predictions
    """
    events: list[tuple[Topic, Row]] = []
    for i in range(number):

        def happens(what: str, usual: float = 0.0, i: int = i) -> bool:
            share: float = said.get(what, usual)
            return i * share % 1 + share >= 1

        time, name = (START + timedelta(minutes=60 + i)).isoformat(), f"{version}-{i}"
        base = {"request_id": name, "event_time": time}
        asked = {
            **base, "model": "m", "model_version": version, "variant": variant,
            "prediction": "yes", "latency_ms": 900.0 if happens("slow") else 9.0,
        }  # fmt: skip
        asked |= {"error": "timeout"} if happens("errors") else {}
        label = "yes" if happens("right", 0.9) else "no"
        events += [
            ("inference", asked),
            ("feedback", {**base, "feedback_id": name, "label": label}),
        ]
        if happens("reports"):
            told = {**base, "feedback_id": f"{name}-r", "kind": "report"}
            events.append(("feedback", told))
    return [(topic, parse(topic, event)) for topic, event in events]


@pytest.mark.parametrize(
    ("treatment", "verdict", "violated"),
    [
        ({}, "no loss", None),
        ({"right": 0.5}, "worse", None),
        ({"right": 1.0}, "better", None),
        ({"errors": 0.2, "slow": 0.25}, "guardrail", "errors, slow"),
        ({"reports": 0.1}, "guardrail", "reports"),
        ({"number": 40}, "too few labels", None),
    ],
)
def test_each_verdict(
    engine: Engine, log: EventLog, treatment: Row, verdict: str, violated: str | None
) -> None:
    number = int(treatment.get("number", 1000))
    more = {name: share for name, share in treatment.items() if name != "number"}
    send(log, lives() + predictions("v2", "canary", number, **more))
    send(log, predictions("v1", "champion", 1000))
    (row,) = engine.rows("select * from headrace.ab_verdict")
    assert (row["experiment"], row["verdict"]) == ("canary v2", verdict)
    assert row["guardrails_violated"] == violated
    assert row["lift_low"] <= row["lift"] <= row["lift_high"]


@pytest.mark.parametrize(("number", "wanted"), [(1000, "as planned"), (600, "sample ratio")])
def test_a_split_that_was_not_planned(
    engine: Engine, log: EventLog, number: int, wanted: str
) -> None:
    """Half was planned. Of a canary that loses predictions no reward is believed."""
    send(log, lives(artifact_uri="a") + predictions("v2", "canary", number, right=1.0))
    send(log, predictions("v1", "champion", 1000))
    rows = engine.rows("select * from headrace.ab_assignments order by arm desc")
    assert [(row["arm"], row["variant"], row["split"]) for row in rows] == [
        ("treatment", "canary", wanted), ("control", "champion", wanted),
    ]  # fmt: skip
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    (verdict,) = engine.rows("select verdict from headrace.ab_verdict")
    assert verdict["verdict"] == ("better" if wanted == "as planned" else wanted)

"""How far shadow versions agree with what was served: a naive recompute."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np
from hypothesis import given
from scipy import stats

from headrace.engine import Engine
from headrace.events.contract import Topic, parse
from headrace.events.log import EventLog
from tests.support.closeness import MICRO, close
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle, as_class
from tests.support.policies import set_policies
from tests.support.rewards import (
    EXAMPLES,
    Row,
    Story,
    mixture_p,
    recent,
    same,
    stories,
    verdicts,
    wilson,
)
from tests.support.stored import empty
from tests.support.streams import START, send

MIN_SAMPLE = 3


Pairs = dict[tuple[str, str, str], list[Any]]


def pairs_of(oracle: Oracle) -> Pairs:
    """Shadow and served predictions by model and versions."""
    pairs: Pairs = defaultdict(list)
    for shadow in oracle.inference.values():
        served = oracle.inference.get(shadow.shadow_of or "")
        if (
            served is not None
            and served is not shadow
            and (served.model, served.item_id) == (shadow.model, shadow.item_id)
            and recent(oracle, shadow.model, utc(shadow.event_time))
        ):
            key = (shadow.model, shadow.model_version, served.model_version)
            pairs[key].append((shadow, served))
    return pairs


def shadows(oracle: Oracle) -> dict[tuple[str, str, str], Row]:
    rows = {}
    for (model, shadow_version, served_version), found in pairs_of(oracle).items():
        said = [(a.prediction, b.prediction) for a, b in found if a.prediction and b.prediction]
        agreed = sum(a == b for a, b in said)
        apart = [a.score - b.score for a, b in found if None not in (a.score, b.score)]
        low, high = wilson(agreed, len(said))
        row: Row = {
            "predictions": len(found),
            "compared": len(said),
            "agreed": agreed,
            "agreement_rate": agreed / len(said) if said else None,
            "agreement_rate_low": low,
            "agreement_rate_high": high,
            "scored": len(apart),
            "mean_score_difference": float(np.mean(np.abs(apart))) if apart else None,
            "mean_score_shift": float(np.mean(apart)) if apart else None,
        }
        for side, version, variants in (
            ("shadow", shadow_version, ("shadow",)),
            ("served", served_version, ("champion", "canary")),
        ):
            right = verdicts(
                oracle,
                [
                    event
                    for event in oracle.of(model)
                    if event.model_version == version
                    and event.variant in variants
                    and recent(oracle, model, utc(event.event_time))
                ],
            )
            row[f"{side}_labels"] = len(right)
            row[f"{side}_accuracy"] = sum(right) / len(right) if right else None
            low, high = wilson(sum(right), len(right))
            row[f"{side}_accuracy_low"], row[f"{side}_accuracy_high"] = low, high
        rows[model, shadow_version, served_version] = row
    return rows


def paired(oracle: Oracle, pairs: list[Any]) -> Row:
    """McNemar's test of the pairs whose predictions and label are classes."""
    right = [0, 0]
    judged = 0
    for shadow, served in pairs:
        if shadow.request_id not in oracle.settled:
            continue
        label = oracle.settled[shadow.request_id].label
        held, said = oracle.judged(shadow, label)
        other = as_class(served.prediction)
        if None not in (held, said, other):
            judged += 1
            if (said == held) != (other == held):
                right[said != held] += 1
    b, c = right
    if not judged:
        return {}
    row: Row = {"judged": judged, "shadow_right": b, "served_right": c}
    row["difference"] = (b - c) / judged
    row["z"] = (b - c) / math.sqrt(b + c) if b + c else None
    row["p_value"] = float(stats.chi2.sf((b - c) ** 2 / (b + c), 1)) if b + c else None
    row["always_valid_p_value"] = (
        mixture_p(b / (b + c) - 0.5, 0.25 / (b + c), 0.0025) if b + c else None
    )
    p = row["always_valid_p_value"]
    row["status"] = "too few labels" if judged < MIN_SAMPLE else "even"
    if row["status"] == "even" and p is not None and p < 0.05:
        row["status"] = "better" if b > c else "worse"
    return row


@EXAMPLES
@given(story=stories())
def test_shadow_agreement(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.shadow_agreement")
        keys = ("model", "shadow_version", "served_version")
        actual = {tuple(row[key] for key in keys): row for row in rows}
        wanted = shadows(oracle)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            for name in ("mean_score_difference", "mean_score_shift"):
                assert close(actual[key][name], want.pop(name), abs=MICRO), (key, name)
            same(actual[key], want)

    story.tell(log, check)


@EXAMPLES
@given(story=stories())
def test_shadow_comparison(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    set_policies(engine, min_sample=str(MIN_SAMPLE))
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.shadow_comparison")
        keys = ("model", "shadow_version", "served_version")
        actual = {tuple(row[key] for key in keys): row for row in rows}
        tasks = engine.rows("select model from headrace.model_tasks where task != 'classification'")
        others = {row["model"] for row in tasks}
        wanted = {
            key: row
            for key, found in pairs_of(oracle).items()
            if key[0] not in others and (row := paired(oracle, found))
        }
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            same(actual[key], want)

    story.tell(log, check)


def test_a_shadow_of_easy_requests_is_not_better(engine: Engine, log: EventLog) -> None:
    """It is right in 80 % of its requests, and the champion in 50 % of all: they never differ."""
    events: list[tuple[Topic, Any]] = []
    for i in range(300):
        time, right = START.isoformat(), i % 10 < 8 if i < 150 else i % 10 < 2
        held = {"label": "yes" if right else "no", "event_time": time, "request_id": f"r{i}"}
        asked: Row = {"event_time": time, "model": "m", "prediction": "yes"}
        served = asked | {"request_id": f"r{i}", "model_version": "v1"}
        events += [("inference", parse("inference", served))]
        events += [("feedback", parse("feedback", held | {"feedback_id": f"f{i}"}))]
        if i < 150:
            shadow = asked | {"request_id": f"s{i}", "shadow_of": f"r{i}", "variant": "shadow"}
            shadow |= {"model_version": "v2"}
            events += [("inference", parse("inference", shadow))]
    send(log, events)
    (shown,) = engine.rows("select * from headrace.shadow_agreement")
    assert shown["shadow_accuracy_low"] > shown["served_accuracy_high"]
    (row,) = engine.rows("select * from headrace.shadow_comparison")
    assert (row["status"], row["judged"], row["difference"]) == ("even", 150, 0)

"""Canaries, shadow versions and preferences, against a naive recompute and by their verdicts."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from msgspec import structs
from scipy.optimize import minimize

from headrace.engine import Engine
from headrace.events.contract import Inference, ModelEvent, Topic, parse
from headrace.events.log import EventLog
from tests.dbt_project.test_statistics import always_valid_p
from tests.dbt_project.test_views import MICRO, SKETCH, close, empty, log  # noqa: F401
from tests.support.oracle import Oracle, quantile, utc
from tests.support.policies import set_policies
from tests.support.rewards import (
    EXAMPLES,
    Row,
    Story,
    compared,
    earned,
    floor,
    in_order,
    interval,
    recent,
    same,
    stories,
    verdicts,
    wilson,
)
from tests.support.streams import START, send

# ln strength: what twenty steps are short of the greatest likelihood, for five versions that all
# met each other, or all met one of them.
STEPS = 20
UNFINISHED = 1e-3


# --- canary_verdict ----------------------------------------------------------------------------


def versions(lives: list[ModelEvent], model: str) -> tuple[str | None, dict[str, datetime]]:
    """The champion, and since when each canary is one."""
    latest: dict[str, ModelEvent] = {}
    for life in in_order(lives):
        if life.model == model:
            latest[life.model_version] = life
    led = in_order(life for life in latest.values() if life.event == "promoted")
    champion = led[-1].model_version if led else None
    return champion, {v: utc(e.event_time) for v, e in latest.items() if e.event == "canary"}


def canaries(oracle: Oracle, lives: list[ModelEvent]) -> dict[tuple[str, str], Row]:
    rows: dict[tuple[str, str], Row] = {}
    for model in {life.model for life in lives}:
        champion, began = versions(lives, model)
        for version, at in began.items():
            served = ((version, "canary"), (champion, "champion"))
            sides, judged = (
                [since(oracle, model, at, step, side) for side in served] for step in (10, 60)
            )
            rewards = [[reward for _, reward in earned(oracle, side)] for side in judged]
            row = compared(rewards[0], rewards[1], "champion")
            errors = [sum(event.error is not None for event in side) for side in sides]
            for prefix, side, wrong in zip(("", "champion_"), sides, errors, strict=True):
                times = [event.latency_ms for event in side if event.latency_ms is not None]
                row[f"{prefix}answers"] = len(side)
                row[f"{prefix}errors"] = wrong
                row[f"{prefix}error_rate"] = wrong / len(side) if side else None
                row[f"{prefix}latency_p95_ms"] = quantile(times, 0.95)
            row["error_always_valid_p_value"] = None
            if all(sides):
                counts = (errors[0], len(sides[0]), errors[1], len(sides[1]))
                row["error_always_valid_p_value"] = float(always_valid_p(counts, 0.1))
            row["champion_version"] = champion
            row["verdict"], row["reason"] = verdict(row)
            rows[model, version] = row
    return rows


def since(
    oracle: Oracle, model: str, began: datetime, step: int, served: tuple[str | None, str]
) -> list[Inference]:
    """What a version answered in a role, from the pane of `step` seconds on in which it began."""
    found = [e for e in oracle.of(model) if (e.model_version, e.variant) == served]
    if not found:
        return []
    fine = floor(oracle.clock(model), 3600) - timedelta(days=2)
    first = floor(began, step if floor(began, 3600) >= fine else 3600)
    return [event for event in found if utc(event.event_time) >= first]


def verdict(
    row: Row,
    min_sample: float = 2,
    alpha: float = 0.05,
    max_error_rate: float = 0.05,
    max_loss: float = 0.02,
) -> tuple[str, str]:
    """The rule as it is written in the description of the view."""
    enough = min(row["labels"], row["champion_labels"]) >= min_sample
    p = row["always_valid_p_value"]
    differs = p is not None and p < alpha and (row["measure"] == "share" or enough)
    error_p = row["error_always_valid_p_value"]
    if row["champion_version"] is None:
        return "continue", "no champion"
    if differs and row["difference"] < 0:
        return "rollback", "lower reward"
    if (
        error_p is not None
        and error_p < alpha
        and row["error_rate"] > max(row["champion_error_rate"], max_error_rate)
    ):
        return "rollback", "more errors"
    if differs and row["difference"] > 0:
        return "promote", "higher reward"
    if not enough:
        return "continue", "too few labels"
    if row["measure"] == "share" and row["mean_reward"] == row["champion_mean_reward"] == 0:
        return "continue", "no reward"
    if row["difference_low"] > -max_loss:
        return "promote", "no loss"
    return "continue", "undecided"


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy, where one side is constant
@EXAMPLES
@given(story=stories())
def test_canary_verdict(engine: Engine, log: EventLog, story: Story) -> None:  # noqa: F811
    empty(engine)
    set_policies(engine, min_sample="2")
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.canary_verdict")
        actual = {(row["model"], row["model_version"]): row for row in rows}
        wanted = canaries(oracle, story.lives)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            for name in ("latency_p95_ms", "champion_latency_p95_ms"):
                assert close(actual[key][name], want.pop(name), rel=SKETCH), (key, name)
            same(actual[key], want)

    story.tell(log, check)


def answers(
    version: str, variant: str, number: int, right: float, errors: float = 0.0
) -> list[tuple[Topic, Any]]:
    """So many answers a minute apart, of which shares are right and failed."""
    events: list[tuple[Topic, dict[str, Any]]] = []
    for i in range(number):
        time = (START + timedelta(minutes=i)).isoformat()
        name = f"{version}-{i}"
        asked = {"request_id": name, "event_time": time, "model": "m", "model_version": version}
        asked |= {"variant": variant, "prediction": "yes"}
        asked |= {"error": "timeout"} if i * errors % 1 + errors >= 1 else {}
        label = "yes" if i * right % 1 + right >= 1 else "no"
        said = {"feedback_id": name, "request_id": name, "event_time": time, "label": label}
        events += [("inference", asked), ("feedback", said)]
    return [(topic, parse(topic, event)) for topic, event in events]


@pytest.mark.parametrize(
    ("canary", "champion", "wanted"),
    [
        ((300, 0.5, 0.0), (1000, 0.9, 0.0), ("rollback", "lower reward")),
        ((300, 0.9, 0.5), (1000, 0.9, 0.0), ("rollback", "more errors")),
        ((300, 0.9, 0.25), (1000, 0.9, 0.25), ("continue", "undecided")),
        ((300, 0.9, 0.0), (1000, 0.5, 0.0), ("promote", "higher reward")),
        ((40, 1.0, 0.0), (1000, 0.25, 0.0), ("promote", "higher reward")),
        ((40, 0.9, 0.0), (1000, 0.9, 0.0), ("continue", "too few labels")),
        ((300, 0.0, 0.0), (1000, 0.0, 0.0), ("continue", "no reward")),
        ((500, 1.0, 0.0), (1000, 1.0, 0.0), ("promote", "no loss")),
    ],
)
def test_each_verdict(
    engine: Engine,
    log: EventLog,  # noqa: F811
    canary: tuple[int, float, float],
    champion: tuple[int, float, float],
    wanted: tuple[str, str],
) -> None:
    lives: list[tuple[Topic, Any]] = [
        ("model_events", parse("model_events", {"event_time": START.isoformat(), **life}))
        for life in (
            {"model": "m", "model_version": "v1", "event": "promoted"},
            {"model": "m", "model_version": "v2", "event": "canary", "traffic": 0.2},
        )
    ]
    send(log, lives + answers("v2", "canary", *canary) + answers("v1", "champion", *champion))
    (row,) = engine.rows("select verdict, reason from headrace.canary_verdict")
    assert (row["verdict"], row["reason"]) == wanted


def clicked(version: str, variant: str, number: int, every: int) -> list[tuple[Topic, Any]]:
    """So many answers a second apart, and a click on one of so many."""
    events: list[tuple[Topic, Any]] = []
    for i in range(number):
        time, name = (START + timedelta(seconds=i)).isoformat(), f"{version}-{i}"
        asked = {"request_id": name, "event_time": time, "model": "m", "model_version": version}
        asked |= {"variant": variant, "prediction": f"ad-{i % 7}"}
        events.append(("inference", parse("inference", asked)))
        if i % every == 0:
            events.append(("feedback", click(name, time)))
    return events


def click(name: str, time: str) -> Any:
    said = {"feedback_id": name, "request_id": name, "event_time": time}
    return parse("feedback", {**said, "kind": "click", "value": 1})


def test_who_does_not_click_counts(engine: Engine, log: EventLog) -> None:  # noqa: F811
    """A canary that is clicked 2 times in a hundred is no match for a champion with 10."""
    lives: list[tuple[Topic, Any]] = [
        ("model_events", parse("model_events", {"event_time": START.isoformat(), **life}))
        for life in (
            {"model": "m", "model_version": "v1", "event": "promoted", "artifact_uri": "a"},
            {"model": "m", "model_version": "v2", "event": "canary", "traffic": 0.5},
        )
    ]
    events = clicked("v1", "champion", 3_000, 10) + clicked("v2", "canary", 3_000, 50)
    send(log, lives + events)

    def verdict() -> Row:
        (row,) = engine.rows("select * from headrace.canary_verdict")
        return row

    assert (verdict()["labels"], verdict()["mean_reward"]) == (60, 1)
    set_policies(engine, "m", default_label="0")
    row = verdict()
    assert (row["labels"], row["champion_labels"]) == (3_000, 3_000)
    assert (row["mean_reward"], row["champion_mean_reward"]) == (0.02, 0.1)
    assert (row["verdict"], row["reason"]) == ("rollback", "lower reward")
    (taken,) = engine.rows("select * from headrace.rollback_trigger where variant = 'canary'")
    assert (taken["due"], taken["reason"]) == (True, "canary: lower reward")
    # 50 minutes of answers, of which the window of the last ten is open
    set_policies(engine, "m", label_window="10 minutes")
    row = verdict()
    assert (row["labels"], row["champion_labels"]) == (2_340, 2_340)
    assert row["verdict"] == "rollback"
    # later feedback takes the place of silence
    set_policies(engine, "m", label_window="0 seconds")
    late = (START + timedelta(hours=1)).isoformat()
    send(log, [("feedback", click(f"v2-{i}", late)) for i in range(5, 2_500, 10)])
    row = verdict()
    assert row["mean_reward"] == pytest.approx((60 + 250) / 3_000)
    assert row["verdict"] == "promote"


# --- shadow_agreement --------------------------------------------------------------------------


def shadows(oracle: Oracle) -> dict[tuple[str, str, str], Row]:
    pairs: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
    for shadow in oracle.inference.values():
        served = oracle.inference.get(shadow.shadow_of or "")
        if (
            served is not None
            and served is not shadow
            and served.model == shadow.model
            and recent(oracle, shadow.model, utc(shadow.event_time))
        ):
            key = (shadow.model, shadow.model_version, served.model_version)
            pairs[key].append((shadow, served))
    rows = {}
    for (model, shadow_version, served_version), found in pairs.items():
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


@EXAMPLES
@given(story=stories())
def test_shadow_agreement(engine: Engine, log: EventLog, story: Story) -> None:  # noqa: F811
    empty(engine)

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


# --- preference_winrate ------------------------------------------------------------------------


def preferences(oracle: Oracle) -> dict[str, Counter[tuple[str, str]]]:
    """How often one version was preferred to another one, by model."""
    wins: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for event in oracle.feedback.values():
        preferred = oracle.inference.get(event.request_id)
        rejected = oracle.inference.get(event.rejected_request_id or "")
        if (
            preferred is not None
            and rejected is not None
            and preferred.model == rejected.model
            and preferred.model_version != rejected.model_version
            and recent(oracle, preferred.model, utc(event.event_time))
        ):
            wins[preferred.model][preferred.model_version, rejected.model_version] += 1
    return wins


def with_many_versions(story: Story) -> Story:
    """The story with one of five versions for every request."""
    story.stream.batches = [
        [
            (topic, structs.replace(event, model_version=f"v{int(event.request_id[1:]) % 5}"))
            if isinstance(event, Inference)
            else (topic, event)
            for topic, event in batch
        ]
        for batch in story.stream.batches
    ]
    return story


def strengths(wins: Counter[tuple[str, str]], steps: int) -> dict[str, float]:
    """Halved steps over all pairs that met, with half a win for either side."""
    names = sorted({name for pair in wins for name in pair})
    met = [(a, b) for a in names for b in names if wins[a, b] + wins[b, a] > 0]
    strength = dict.fromkeys(names, 1.0)
    for _ in range(steps):
        up, down = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for a, b in met:
            up[a] += (wins[a, b] + 0.5) * strength[b] / (strength[a] + strength[b])
            down[a] += (wins[b, a] + 0.5) / (strength[a] + strength[b])
        strength = {a: math.sqrt(strength[a] * up[a] / down[a]) for a in names}
    middle = math.exp(sum(map(math.log, strength.values())) / len(names))
    return {name: value / middle for name, value in strength.items()}


@EXAMPLES
@given(story=stories().map(with_many_versions))
def test_preference_winrate(engine: Engine, log: EventLog, story: Story) -> None:  # noqa: F811
    empty(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.preference_winrate")
        actual = {(row["model"], row["model_version"]): row for row in rows}
        assert len(actual) == len(rows)
        wanted = {}
        for model, wins in preferences(oracle).items():
            for name, strength in strengths(wins, STEPS).items():
                won = sum(count for (a, _), count in wins.items() if a == name)
                lost = sum(count for (_, b), count in wins.items() if b == name)
                low, high = wilson(won, won + lost)
                wanted[model, name] = {
                    "opponents": len({x for pair in wins if name in pair for x in pair}) - 1,
                    "comparisons": won + lost,
                    "wins": won,
                    "losses": lost,
                    "win_rate": won / (won + lost),
                    "win_rate_low": low,
                    "win_rate_high": high,
                    "strength": strength,
                }
        assert actual.keys() == wanted.keys()
        for key, want in wanted.items():
            same(actual[key], want)

    story.tell(log, check)


@pytest.mark.parametrize("everybody_met", [True, False])
def test_strength_is_the_likeliest(engine: Engine, everybody_met: bool) -> None:
    """Five versions of known strength; the greatest smoothed likelihood is SciPy's."""
    truth = dict(zip("abcde", [0.2, 0.5, 1.0, 2.0, 5.0], strict=True))
    draw = random.Random(7)
    wins: Counter[tuple[str, str]] = Counter()
    for a, b in combinations(truth, 2):
        if everybody_met or a == "a":
            for _ in range(200):
                first = draw.random() < truth[a] / (truth[a] + truth[b])
                wins[(a, b) if first else (b, a)] += 1
    fill_preferences(engine, wins)
    rows = engine.rows("select model_version, strength from headrace.preference_winrate")
    found = {row["model_version"]: row["strength"] for row in rows}
    names = sorted(truth)

    def loss(logs: Any) -> float:
        at = dict(zip(names, logs, strict=True))
        surprise = sum(
            (wins[a, b] + 0.5) * math.log1p(math.exp(at[b] - at[a]))
            for a, b in permutations(names, 2)
            if wins[a, b] + wins[b, a] > 0
        )
        return surprise + float(sum(logs)) ** 2

    best = minimize(loss, np.zeros(5), tol=1e-12).x
    for name, likeliest in zip(names, best - best.mean(), strict=True):
        assert math.log(found[name]) == pytest.approx(likeliest, abs=UNFINISHED)


def fill_preferences(engine: Engine, wins: Counter[tuple[str, str]]) -> None:
    """Put preferences straight into their pane, and a clock beside them."""
    with EventLog(engine) as opened:
        asked = parse("inference", {"model": "m", "event_time": START.isoformat()})
        send(opened, [("inference", asked)])
    with engine.connect() as connection:
        for (preferred, rejected), number in wins.items():
            connection.execute(
                "insert into panes.preference_panes values ('m', %s, %s, %s, null, %s)",
                [START, preferred, rejected, number],
            )


def test_interval_of_one_reward_is_open() -> None:
    assert interval([0.5], share=False) == (None, None)

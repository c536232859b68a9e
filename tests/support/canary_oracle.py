"""What canary_verdict says, recomputed from all events."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from headrace.events.contract import Inference, ModelEvent
from tests.support.always_valid import always_valid_p
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle, quantile
from tests.support.rewards import Row, compared, daily, floor, in_order
from tests.support.units import LEAST, unit_effects


def versions(told: list[ModelEvent], model: str) -> tuple[str | None, dict[str, datetime]]:
    """The champion, and since when each canary is one."""
    latest: dict[str, ModelEvent] = {}
    for life in in_order(told):
        if life.model == model:
            latest[life.model_version] = life
    led = in_order(life for life in latest.values() if life.event == "promoted")
    champion = led[-1].model_version if led else None
    return champion, {v: utc(e.event_time) for v, e in latest.items() if e.event == "canary"}


def canaries(oracle: Oracle, told: list[ModelEvent]) -> dict[tuple[str, str], Row]:
    rows: dict[tuple[str, str], Row] = {}
    for model in {life.model for life in told}:
        champion, began = versions(told, model)
        for version, at in began.items():
            served = ((version, "canary"), (champion, "champion"))
            sides, judged = (
                [since(oracle, model, at, step, side) for side in served] for step in (10, 60)
            )
            whole = [
                [
                    event
                    for event in oracle.of(model)
                    if (event.model_version, event.variant) == side
                    and utc(event.event_time) >= floor(at, 86_400)
                ]
                for side in served
            ]
            effects = unit_effects(oracle, *whole)
            row = compared(daily(oracle, judged[0]), daily(oracle, judged[1]), "champion", effects)
            timed: list[tuple[int, int]] = []
            errors = [sum(event.error is not None for event in side) for side in sides]
            for prefix, side, wrong in zip(("", "champion_"), sides, errors, strict=True):
                times = [event.latency_ms for event in side if event.latency_ms is not None]
                row[f"{prefix}predictions"] = len(side)
                row[f"{prefix}errors"] = wrong
                row[f"{prefix}error_rate"] = wrong / len(side) if side else None
                row[f"{prefix}latency_p95_ms"] = quantile(times, 0.95)
                row[f"{prefix}slow_rate"] = sum(map(is_slow, times)) / len(times) if times else None
                timed.append((sum(map(is_slow, times)), len(times)))
            row["slow_always_valid_p_value"] = None
            if all(number for _, number in timed):
                row["slow_always_valid_p_value"] = float(
                    always_valid_p((*timed[0], *timed[1]), 0.1)
                )
            row["error_always_valid_p_value"] = None
            if all(sides):
                counts = (errors[0], len(sides[0]), errors[1], len(sides[1]))
                row["error_always_valid_p_value"] = float(always_valid_p(counts, 0.1))
            row["champion_version"] = champion
            row["verdict"], row["reason"] = verdict(row)
            rows[model, version] = row
    return rows


def is_slow(latency_ms: float) -> bool:
    """Whether an answer took longer than the policy max_latency_ms, by whole buckets."""

    def bucket(x: float) -> int:
        return math.ceil(math.log(x) / math.log(1.0202020202020203))

    return latency_ms > 0 and bucket(latency_ms) > bucket(500)


def since(
    oracle: Oracle, model: str, began: datetime, step: int, served: tuple[str | None, str]
) -> list[Inference]:
    """Predictions of a version in a role, from the pane of `step` seconds on in which it began."""
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
    max_loss: float = 0.1,
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
    slow_p = row["slow_always_valid_p_value"]
    if (
        slow_p is not None
        and slow_p < alpha
        and row["slow_rate"] > max(row["champion_slow_rate"], 0.05)
    ):
        return "rollback", "slower"
    if differs and row["difference"] > 0:
        return "promote", "higher reward"
    if not enough:
        return "continue", "too few labels"
    if (row["unit_groups"] or LEAST) < LEAST:
        return "continue", "too few users"
    if row["measure"] == "share" and row["mean_reward"] == row["champion_mean_reward"] == 0:
        return "continue", "no reward"
    low = row["always_valid_low"]
    if low is not None and low > -max_loss * abs(row["champion_mean_reward"]):
        return "promote", "no loss"
    return "continue", "undecided"

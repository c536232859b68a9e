"""How often the verdicts of the views are wrong, and how soon they find a change.

Every status of every drift, trigger and rollout view is read after each hour of streams in which
nothing changes, and of streams in which one thing does.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.load import send
from benchmarks.report import quantile, say, table
from benchmarks.worlds import CHANGED, SLOPE, STEADY, Plan, hour, sigmoid, versions
from headrace.control import policies
from headrace.engine import Engine
from headrace.events.log import EventLog

# Rows an hour, streams of each kind, hours of those without a change; of the others hours before
# and after it.
SIZES = ((100, 12, 24, 6, 8), (1_000, 5, 10, 6, 5), (10_000, 2, 3, 1, 7))
QUICK_SIZES = ((100, 4, 6, 3, 4),)
# As long as labels of the greatest streams take to tell of a lower AUC.
METRIC_WINDOW = "6 hours"
TOGETHER = 2_000  # predictions that are sent at once
LOOKS_BAR, STREAMS_BAR, FOUND_BAR = 0.01, 0.05, 0.95
# What is told, the condition under which it tells of a change, and the mart that tells it.
VIEWS = {
    "feature_psi": ("status in ('moving', 'drifted')", "feature_psi"),
    "segment_drift": ("status in ('moving', 'drifted')", "segment_drift"),
    "text_drift": ("status in ('moving', 'drifted')", "text_drift"),
    "label_drift": ("status in ('moving', 'drifted')", "label_drift"),
    "prediction_drift": ("status in ('moving', 'drifted', 'halt')", "prediction_drift"),
    "calibration_drift": ("status = 'drifted'", "calibration_drift"),
    "concept_drift": ("status = 'drifted'", "concept_drift"),
    "metric_drop": ("status = 'dropped'", "metric_drop"),
    "metric_forecast": ("status in ('crossing', 'crossed')", "metric_forecast"),
    "retrain_trigger": ("coalesce(reason, '') != ''", "retrain_trigger"),
    "rollback_trigger": ("action != 'none'", "rollback_trigger"),
    "canary_verdict": (
        "reason in ('lower reward', 'higher reward', 'more errors')",
        "canary_verdict",
    ),
    "holdout_comparison": ("status in ('better', 'worse')", "holdout_comparison"),
}
# What must tell of each change.
FOUND_BY = {
    "mean +0.5 sd": "feature_psi",
    "a category of 0.2 doubles": "feature_psi",
    "AUC -0.05": "metric_drop",
    "canary's CTR -20 %": "canary_verdict",
}


class Look(msgspec.Struct, frozen=True):
    """What a view said of a model after an hour."""

    view: str
    model: str
    hour: int
    told: bool


def run(engine: Engine, quick: bool = False) -> str:
    """Return both tables as Markdown."""
    false: list[Sequence[object]] = []
    found: list[Sequence[object]] = []
    for rows, streams, hours, before, after in QUICK_SIZES if quick else SIZES:
        looks = list(_looks(engine, STEADY, rows, streams, hours, since=hours))
        false += _false_alarms(rows, looks)
        looks = list(_looks(engine, CHANGED, rows, streams, before + after, since=before))
        found += _detections(rows, streams, before, looks)
    return (
        "### Without a change\n\n"
        + table(("view", "rows an hour", "looks", "wrong", "streams", "wrong once"), false)
        + f"\nBar: {LOOKS_BAR:.0%} of looks, {STREAMS_BAR:.0%} of streams.\n\n"
        "### With a change\n\n"
        + table(("change", "view", "rows an hour", "streams", "found", "rows until 95 %"), found)
        + f"\nBar: {FOUND_BAR:.0%}.\n"
    )


def _looks(
    engine: Engine, plans: Sequence[Plan], rows: int, streams: int, hours: int, since: int
) -> Iterator[Look]:
    models = {f"{plan.name} {rows} {number}": plan for plan in plans for number in range(streams)}
    rngs = {model: np.random.default_rng([7, place]) for place, model in enumerate(models)}
    names, step = list(models), max(TOGETHER // rows, 1)
    policies.write(
        engine, "*", {"learn": "on", "min_new_labels": 10**9, "metric_window": METRIC_WINDOW}
    )
    with EventLog(engine) as log:
        auc = _auc()
        for model in models:
            send(log, [("model_events", versions(model, auc))])
        for number in range(hours):
            if number % 5 == 0:
                say(f"{rows} rows an hour: hour {number} of {hours}")
            for at in range(0, len(names), step):
                some = names[at : at + step]
                send(log, *(hour(rngs[of], models[of], of, number, rows, since) for of in some))
            yield from _read(engine, models, number)


def _read(engine: Engine, models: dict[str, Plan], number: int) -> Iterator[Look]:
    for view, (condition, mart) in VIEWS.items():
        query = f"select model, bool_or({condition}) as told from headrace.{mart} group by model"
        for row in engine.rows(query):
            if row["model"] in models:
                yield Look(view, row["model"], number, bool(row["told"]))


def _false_alarms(rows: int, looks: list[Look]) -> Iterator[Sequence[object]]:
    for view in VIEWS:
        of_view = [look for look in looks if look.view == view]
        wrong = [look for look in of_view if look.told]
        models = {look.model for look in of_view}
        yield (
            f"`{view}`", f"{rows:,}", f"{len(of_view):,}",
            f"{len(wrong) / max(len(of_view), 1):.2%}", len(models),
            f"{len({look.model for look in wrong}) / max(len(models), 1):.0%}",
        )  # fmt: skip


def _detections(
    rows: int, streams: int, before: int, looks: list[Look]
) -> Iterator[Sequence[object]]:
    for change, view in FOUND_BY.items():
        first: dict[str, int] = {}
        for look in looks:
            if (
                look.view == view
                and look.told
                and look.hour >= before
                and look.model.startswith(change)
            ):
                first.setdefault(look.model, look.hour)
        hours = [hour - before + 1 for hour in first.values()]
        hours += [10**9] * (streams - len(hours))
        needed = quantile(hours, FOUND_BAR)
        yield (
            change, f"`{view}`", f"{rows:,}", streams, f"{len(first) / streams:.0%}",
            f"{needed * rows:,}" if needed < 10**9 else "more",
        )  # fmt: skip


@functools.cache
def _auc() -> float:
    """The AUC of a steady classifier, of a million draws."""
    rng = np.random.default_rng(0)
    logit = rng.normal(size=1_000_000)
    return float(roc_auc_score(rng.random(logit.size) < sigmoid(SLOPE * logit), logit))

"""Sessions, reports, capacity and forecasts once more, naively: plain Python over the events."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from scipy.stats import binomtest, linregress, norm
from sklearn.metrics import log_loss

from headrace.events.contract import Feedback, Inference
from tests.support.label_oracle import label_of, moment_of, utc
from tests.support.oracle import Oracle, hour, mean, minute, quantile
from tests.support.samples import MONTH, samples
from tests.support.streams import MODELS

GAP, HORIZON = timedelta(minutes=90), timedelta(days=2)
MIN_SAMPLE, MAX_LATENCY_MS, CLEAR_RATIO, MAX_REPORTS = 3, 4000.0, 0.8, 20_000.0
MAX_ERROR_RATE, MAX_DROP, DRIFT_ALPHA = 0.3, 0.05, 0.05
BASELINES = {"baseline_accuracy": 0.75, "baseline_log_loss": "unknown"}
Row = dict[str, Any]


def by_model(oracle: Oracle) -> dict[str, tuple[datetime, list[Inference]]]:
    """The clock and the predictions of every model."""
    models = {event.model for event in oracle.inference.values()}
    return {model: (oracle.clock(model), oracle.of(model)) for model in models}


def beginning(inferences: list[Inference]) -> datetime:
    """When a model began, but for predictions of another age."""
    first = min(utc(event.event_time) for event in inferences)
    found = samples(inferences, MIN_SAMPLE)
    return max(first, found.first) if found else first


# --- sessions ----------------------------------------------------------------------------------


def sessions(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    visits: dict[tuple[Any, ...], list[Inference]] = defaultdict(list)
    for model, (clock, inferences) in by_model(oracle).items():
        for event in inferences:
            recent = utc(event.event_time) > clock - timedelta(days=30)
            if recent and event.user_id is not None and event.variant != "shadow":
                visits[model, event.user_id, event.session_id].append(event)
    expected = {}
    for key, events in visits.items():
        events.sort(key=lambda event: utc(event.event_time))
        parts = [[events[0]]]
        for event in events[1:]:
            pause = utc(event.event_time) - utc(parts[-1][-1].event_time)
            if key[2] is None and pause > GAP:
                parts.append([])
            parts[-1].append(event)
        for part in parts:
            start, end = utc(part[0].event_time), utc(part[-1].event_time)
            judged = [event for event in part if event.request_id in oracle.settled]
            expected[*key, start] = {
                "session_end": end,
                "seconds": (end - start).total_seconds(),
                "is_open": oracle.clock(key[0]) - end <= GAP,
                "predictions": len(part),
                "errors": sum(event.error is not None for event in part),
                "items": len({event.item_id for event in part} - {None}),
                "labels": len(judged),
                "reward": float(sum(oracle.reward(event) for event in judged)),
            }
    return expected


# --- reports -----------------------------------------------------------------------------------


def reports(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    expected = {}
    for model, (clock, inferences) in by_model(oracle).items():
        last = {
            (event.request_id, voter(event)): event
            for event in sorted(oracle.standing(), key=moment_of)
            if event.kind == "report"
            and event.request_id in oracle.inference
            and oracle.inference[event.request_id].model == model
        }
        known = [
            max(utc(event.event_time), utc(oracle.inference[event.request_id].event_time))
            for event in last.values()
        ]
        served = [utc(event.event_time) for event in inferences if event.variant != "shadow"]
        first = beginning(inferences)
        for name, length, floor, before in [
            ("5 minutes", timedelta(minutes=5), minute, 24),
            ("1 hour", timedelta(hours=1), minute, 24),
            ("1 day", timedelta(days=1), hour, 7),
        ]:
            end = floor(clock) + (timedelta(hours=1) if floor is hour else timedelta(minutes=1))
            start = end - length
            expected[model, name] = {
                "window_start": start,
                "window_end": end,
                **rate(
                    sum(start <= time < end for time in served),
                    sum(start <= time < end for time in known),
                    sum(start - before * length <= time < start for time in known),
                    min((start - first) / length, float(before)),
                ),
            }
    return expected


def rate(predictions: int, reports: int, before: int, windows: float) -> Row:
    per_100k = 1e5 * reports / predictions if predictions else None
    test = binomtest(min(reports, predictions), predictions) if predictions else None
    low, high = test.proportion_ci(method="wilson") if test else (None, None)
    usual = before / windows if windows >= 1 else None
    status = "high" if per_100k is not None and per_100k > MAX_REPORTS else "normal"
    return {
        "predictions": predictions,
        "reports": reports,
        "reports_per_100k": per_100k,
        "per_100k_low": None if low is None else 1e5 * float(low),
        "per_100k_high": None if high is None else 1e5 * float(high),
        "expected": usual,
        "spike_score": None if usual is None else (reports - usual) / math.sqrt(usual + 1),
        "status": "too few predictions" if predictions < MIN_SAMPLE else status,
    }


# --- named scores ------------------------------------------------------------------------------


def voter(event: Feedback) -> str | tuple[str]:
    """Who said it; everybody who is not named is somebody else."""
    return event.user_id or (event.feedback_id,)


def named_scores(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    last = {
        (event.request_id, event.kind, event.metadata["name"], voter(event)): event
        for event in sorted(oracle.standing(), key=moment_of)
        if event.metadata.get("name") and event.kind not in ("report", "preference", "retraction")
    }
    by_name: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for event in last.values():
        if asked := oracle.inference.get(event.request_id):
            known_at = max(utc(event.event_time), utc(asked.event_time))
            if hour(known_at) > oracle.clock(asked.model) - timedelta(days=30):
                name = event.metadata["name"]
                by_name[asked.model, asked.model_version, name].append(event)
    expected = {}
    for key, events in by_name.items():
        newest = max(events, key=moment_of)
        expected[key] = {
            "scores": len(events),
            "mean_value": mean(event.value for event in events if event.value is not None),
            "last_label": newest.label or label_of(newest),
            "last_feedback_time": utc(newest.event_time),
        }
    return expected


# --- capacity ----------------------------------------------------------------------------------


def scaling(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    expected = {}
    for model, (clock, inferences) in by_model(oracle).items():
        end = clock.replace(second=clock.second // 10 * 10, microsecond=0)
        ages = {
            event.request_id: (end - utc(event.event_time)).total_seconds() for event in inferences
        }
        ages = {name: age for name, age in ages.items() if age > 0}

        def per_second(seconds: int, ages: dict[str, float] = ages) -> float:
            return sum(age <= seconds for age in ages.values()) / seconds

        latencies = [
            event.latency_ms
            for event in inferences
            if event.latency_ms is not None and 0 < ages.get(event.request_id, 0) <= 300
        ]
        first = beginning(inferences)
        minutes = range(min(math.floor((end - first).total_seconds() / 60), 60))
        x = [-float(ago) for ago in minutes]
        y = [sum(60 * m < age <= 60 * m + 60 for age in ages.values()) / 60 for m in minutes]
        slope, stderr, _, line = fit(x, y)
        average = mean(latencies)
        expected[model,] = {
            "window_end": end,
            "requests_per_second_1m": per_second(60),
            "requests_per_second_5m": per_second(300),
            "requests_per_second_60m": per_second(3600),
            "latency_mean_ms": average,
            "latency_p95_ms": quantile(latencies, 0.95),
            "concurrency": None if average is None else per_second(300) * average / 1000,
            "trend_per_minute": slope,
            "trend_stderr": stderr,
            "forecast_requests_per_second": None if slope is None else max(line(10), 0.0),
        }
    return expected


def fit(
    x: list[float], y: list[float]
) -> tuple[float | None, float | None, float | None, Callable[[float], float]]:
    """Slope, its standard error, r squared and the line; None where there is no line."""
    if len(x) < 3 or len(set(x)) == 1:
        return None, None, None, lambda at: math.nan * at
    if len(set(y)) == 1:
        return 0.0, 0.0, None, lambda at: y[0] + 0 * at
    found = linregress(x, y)
    return (
        float(found.slope), float(found.stderr), float(found.rvalue**2),
        lambda at: float(found.intercept + found.slope * at),
    )  # fmt: skip


# --- forecasts ---------------------------------------------------------------------------------


def forecasts(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    expected = {}
    for model, (clock, inferences) in by_model(oracle).items():
        follows = model == MODELS[0] and oracle.is_serving(model, "v1", timedelta(days=1))
        version = "v1" if follows else None
        served = [
            event
            for event in inferences
            if event.variant == "champion" and version in (None, event.model_version)
        ]
        if not served:
            continue
        since = min(utc(event.event_time) for event in served)
        recent = [hour(utc(event.event_time)) for event in served]
        recent = [time for time in recent if time >= clock - MONTH]
        since = max(since, min(recent, default=since))
        daily = clock - since >= timedelta(days=3)
        start = hour(max(since, clock - timedelta(days=30)))
        points: dict[datetime, list[Inference]] = defaultdict(list)
        for event in served:
            time = hour(utc(event.event_time))
            if time >= start:
                points[time.replace(hour=0) if daily else time].append(event)
        for metric in ("error_rate", "accuracy", "log_loss"):
            values = {
                time: measured
                for time in sorted(points)
                if (measured := measure(oracle, metric, points[time])) is not None
            }
            if values:
                middle = timedelta(hours=12 if daily else 0.5)
                x = [(time + middle - clock) / timedelta(days=1) for time in values]
                numbers, y = map(list, zip(*values.values(), strict=True))
                row = forecast(metric, version, x, y, numbers)
                row["examples"] = sum(numbers)
                expected[model, metric] = {
                    **row, "model_version": version, "grain": "1 day" if daily else "1 hour",
                    "window_start": start, "window_end": clock, "points": len(values),
                }  # fmt: skip
    return expected


def measure(oracle: Oracle, metric: str, events: list[Inference]) -> tuple[int, float] | None:
    """How many predictions a point has, and its value."""
    if metric == "error_rate":
        return len(events), sum(event.error is not None for event in events) / len(events)
    truth = {
        event.request_id: label
        for event in events
        if event.request_id in oracle.settled
        and (label := oracle.judged(event, oracle.settled[event.request_id].label)[0]) is not None
    }
    judged = [event for event in events if event.request_id in truth]
    if metric == "accuracy":
        called = [event for event in judged if oracle.judged(event, None)[1] is not None]
        right = sum(event.prediction == truth[event.request_id] for event in called)
        return (len(called), right / len(called)) if called else None
    scores = {e.request_id: e.score for e in judged if e.score is not None}
    y = [truth[name] == oracle.positive_of(events[0].model) for name in scores]
    p = np.clip(list(scores.values()), 1e-6, 1 - 1e-6)
    return (len(y), float(log_loss(y, p, labels=[0, 1]))) if y else None


def forecast(
    metric: str, version: str | None, x: list[float], y: list[float], numbers: list[int]
) -> Row:
    slope, stderr, r_squared, line = weighted_fit(x, y, numbers, is_share=metric != "log_loss")
    baseline = None
    if metric != "error_rate":
        promoted = BASELINES[f"baseline_{metric}"] if version else None
        start = None if slope is None else line(x[0])
        baseline = promoted if isinstance(promoted, float) else start
    worse = -1 if metric == "accuracy" else 1
    threshold = baseline and baseline * (1 + worse * MAX_DROP)
    if metric == "error_rate":
        threshold = MAX_ERROR_RATE
    ahead, status = None, "too few rows"
    if slope is not None and stderr is not None and threshold is not None:
        gap = (threshold - line(0)) * worse
        is_worse = slope * worse > 0
        if is_worse and 0 < gap <= abs(slope) * 36525:
            ahead = gap / abs(slope)
        sure = stderr > 0 and 2 * norm.sf(wallace(abs(slope) / stderr, len(x) - 2)) < DRIFT_ALPHA
        if sum(numbers) >= MIN_SAMPLE:
            status = "stable"
            if sure and is_worse and gap <= 0:
                status = "crossed"
            elif sure and ahead is not None and timedelta(days=ahead) <= HORIZON:
                status = "crossing"
    row = {
        "value_now": None if slope is None else line(0),
        "slope_per_day": slope,
        "slope_stderr": stderr,
        "baseline": baseline,
        "threshold": threshold,
        "status": status,
    }
    if metric != "log_loss":  # a millionth decides whether such points are a constant
        row |= {"r_squared": r_squared, "days_ahead": ahead}
    return row


def weighted_fit(
    x: list[float], y: list[float], weights: list[int], *, is_share: bool
) -> tuple[float | None, float | None, float | None, Callable[[float], float]]:
    """As fit, each point counting by its weight, with at least the variance of shares."""
    if len(x) < 3 or len(set(x)) == 1:
        return None, None, None, lambda at: math.nan * at
    # A point of weight w is w points, but for the degrees of freedom.
    slope, _, r_squared, line = fit(
        [value for value, w in zip(x, weights, strict=True) for _ in range(w)],
        [value for value, w in zip(y, weights, strict=True) for _ in range(w)],
    )
    middle, level = np.average(x, weights=weights), np.average(y, weights=weights)
    residuals = np.array([value - line(at) for at, value in zip(x, y, strict=True)])
    variance = np.sum(weights * residuals**2) / (len(x) - 2)
    if is_share:
        variance = max(variance, level * (1 - level))
    spread = np.sum(weights * (np.array(x) - middle) ** 2)
    return slope, float(np.sqrt(variance / spread)), r_squared, line


def wallace(t: float, degrees: int) -> float:
    scale = (8 * degrees + 1) / (8 * degrees + 3)
    return scale * math.sqrt(degrees * math.log1p(t * t / degrees))

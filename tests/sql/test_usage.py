"""Sessions, reports, capacity and forecasts, against plain Python over the events."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import binomtest, linregress
from sklearn.metrics import log_loss

from headrace.engine import Engine
from headrace.events import Event, Inference, Topic, parse
from headrace.log import EventLog
from tests.sql.oracle import Oracle, as_class, hour, mean, minute, quantile, utc
from tests.sql.settings import STRETCHES, set_policies, stretched
from tests.sql.streams import MODELS, START, Stream, first_of_each, send, streams
from tests.sql.test_views import EXAMPLES, MICRO, SKETCH, close, empty

EXAMPLES = settings(EXAMPLES, max_examples=15)
# Latencies and log scores are summed in millionths, each off by half of one.
MEAN: dict[str, float] = {"rel": 1e-9, "abs": MICRO}
# SciPy adds the same doubles up in another order.
FIT: dict[str, float] = {"rel": 1e-6, "abs": 1e-9}
# A line through points that are off by a millionth, and less than an hour apart.
SLOPE: dict[str, float] = {"rel": 1e-4, "abs": 100 * MICRO}

GAP, HORIZON = timedelta(minutes=90), timedelta(days=2)
MIN_SAMPLE, MAX_LATENCY_MS, CLEAR_RATIO, MAX_REPORTS = 3, 4000.0, 0.8, 20_000.0
MAX_ERROR_RATE, MAX_DROP = 0.3, 0.05
BASELINES = {"baseline_accuracy": 0.75, "baseline_log_loss": "unknown"}
POLICIES = {
    "session_gap": "90 minutes", "forecast_horizon": "2 days", "min_sample": "3",
    "max_latency_ms": "4000", "max_report_rate": "20000", "max_error_rate": "0.3",
}  # fmt: skip
Row = dict[str, Any]


@pytest.fixture
def log(engine: Engine) -> Iterator[EventLog]:
    with EventLog(engine) as opened:
        yield opened


def champion() -> list[tuple[Topic, Event]]:
    """The first model has a champion; the second one has none."""
    step = {"event_time": START.isoformat(), "model": MODELS[0], "model_version": "v1"}
    return [
        ("model_events", parse("model_events", {**step, "event": "trained", "metrics": BASELINES})),
        ("model_events", parse("model_events", {**step, "event": "promoted"})),
    ]


@EXAMPLES
@given(stream=streams(), stretch=STRETCHES)
def test_usage_views_equal_recompute(
    engine: Engine, log: EventLog, stream: Stream, stretch: float
) -> None:
    empty(engine)
    set_policies(engine, **POLICIES)
    send(log, champion())
    check(engine, log, stretched(stream, stretch))


@pytest.mark.parametrize("days", [0.04, 1.5, 20])
def test_dense_streams_equal_recompute(engine: Engine, log: EventLog, days: float) -> None:
    empty(engine)
    set_policies(engine, **POLICIES)
    send(log, champion())
    check(engine, log, dense(days))
    if days < 1:
        rows = engine.rows("select signal from headrace.scaling_signal")
        assert {row["signal"] for row in rows} == {"up", "down"}
    else:
        rows = engine.rows("select crosses_within_horizon from headrace.metric_forecast")
        assert {row["crosses_within_horizon"] for row in rows} == {True, False}


def dense(days: float) -> Stream:
    """Two models over some days: one gets slower, worse and busier, the other all the opposite."""
    rng = random.Random(f"{days}")
    batches: list[list[tuple[Topic, Event]]] = [[], []]
    for number in range(800):
        model = number % 2
        passed = rng.betavariate(1, 1.5) if model else rng.betavariate(2, 1)
        trouble = 1 - passed if model else passed
        at = START + passed * timedelta(days=days)
        label = rng.choice(["yes", "no"])
        answer = {
            "request_id": f"r{number}", "event_time": at.isoformat(), "model": MODELS[model],
            "model_version": rng.choice(["v1", "v1", "v2"]), "variant": "champion",
            "user_id": rng.choice("ab"), "item_id": rng.choice("ij"), "endpoint": "web",
            "session_id": rng.choice([None, None, "s"]), "score": rng.random(),
            "prediction": rng.choice(["yes", "no"]) if rng.random() < trouble else label,
            "latency_ms": rng.random() * 8000 * trouble, "propensity": 1.0,
            "error": "timeout" if rng.random() < trouble / 2 else None,
        }  # fmt: skip
        heard = at + rng.random() * timedelta(hours=1)
        said = {"request_id": f"r{number}", "event_time": min(heard, START + timedelta(days=days))}
        kind = {"kind": "report"} if rng.random() < 0.2 else {"kind": "label", "label": label}
        batch = batches[rng.random() < 0.5]
        batch.append(("inference", parse("inference", answer)))
        batch.append(("feedback", parse("feedback", {**said, **kind, "feedback_id": f"f{number}"})))
    return Stream(batches)


def check(engine: Engine, log: EventLog, stream: Stream) -> None:
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        oracle = Oracle(*first_of_each(Stream(stream.batches[: number + 1])))
        compare(engine, "user_sessions", sessions(oracle))
        compare(engine, "report_rate", reports(oracle))
        compare(engine, "scaling_signal", scaling(oracle))
        compare(engine, "metric_forecast", forecasts(oracle))
        check_signals(engine)


KEYS = {
    "user_sessions": ("model", "user_id", "session_id", "session_start"),
    "report_rate": ("model", "window_name"),
    "scaling_signal": ("model",),
    "metric_forecast": ("model", "metric"),
}


def compare(engine: Engine, view: str, expected: dict[tuple[Any, ...], Row]) -> None:
    """Hold a view to rows by key: numbers within their tolerance, everything else as it is."""
    rows = engine.rows(f"select * from headrace.{view}")
    for row in rows:
        if row.get("crosses_at"):
            row["days_ahead"] = (row["crosses_at"] - row["window_end"]) / timedelta(days=1)
    actual = {tuple(row[name] for name in KEYS[view]): row for row in rows}
    assert len(actual) == len(rows)
    assert actual.keys() == expected.keys(), view
    for key, row in actual.items():
        for name, wanted in expected[key].items():
            if isinstance(wanted, float):
                assert close(row[name], wanted, **tolerance(row, name)), (view, key, name)
            else:
                assert row.get(name) == wanted, (view, key, name)


def tolerance(row: Row, name: str) -> dict[str, float]:
    if name in ("latency_mean_ms", "concurrency", "reward"):
        return MEAN
    if name == "latency_p95_ms":
        return {"rel": SKETCH}
    return SLOPE if row.get("metric") == "log_loss" else FIT


def by_model(oracle: Oracle) -> dict[str, tuple[datetime, list[Inference]]]:
    """The clock and the answers of every model."""
    models = {event.model for event in oracle.inference.values()}
    return {model: (oracle.clock(model), oracle.of(model)) for model in models}


# --- sessions ----------------------------------------------------------------------------------


def sessions(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    visits: dict[tuple[Any, ...], list[Inference]] = defaultdict(list)
    for model, (clock, answers) in by_model(oracle).items():
        for event in answers:
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
            judged = [event for event in part if event.request_id in oracle.labels]
            expected[*key, start] = {
                "session_end": end,
                "seconds": (end - start).total_seconds(),
                "is_open": oracle.clock(key[0]) - end <= GAP,
                "answers": len(part),
                "errors": sum(event.error is not None for event in part),
                "items": len({event.item_id for event in part} - {None}),
                "labels": len(judged),
                "reward": float(sum(oracle.reward(event) for event in judged)),
            }
    return expected


# --- reports -----------------------------------------------------------------------------------


def reports(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    expected = {}
    for model, (clock, answers) in by_model(oracle).items():
        known = [
            max(utc(event.event_time), utc(oracle.inference[event.request_id].event_time))
            for event in oracle.feedback.values()
            if event.kind == "report"
            and event.request_id in oracle.inference
            and oracle.inference[event.request_id].model == model
        ]
        served = [utc(event.event_time) for event in answers if event.variant != "shadow"]
        first = min(utc(event.event_time) for event in answers)
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


def rate(answers: int, reports: int, before: int, windows: float) -> Row:
    per_100k = 1e5 * reports / answers if answers else None
    test = binomtest(min(reports, answers), answers) if answers else None
    low, high = test.proportion_ci(method="wilson") if test else (None, None)
    usual = before / windows if windows >= 1 else None
    status = "high" if per_100k is not None and per_100k > MAX_REPORTS else "normal"
    return {
        "answers": answers,
        "reports": reports,
        "reports_per_100k": per_100k,
        "per_100k_low": None if low is None else 1e5 * float(low),
        "per_100k_high": None if high is None else 1e5 * float(high),
        "expected": usual,
        "spike_score": None if usual is None else (reports - usual) / math.sqrt(usual + 1),
        "status": "too few answers" if answers < MIN_SAMPLE else status,
    }


# --- capacity ----------------------------------------------------------------------------------


def scaling(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    expected = {}
    for model, (clock, answers) in by_model(oracle).items():
        end = clock.replace(second=clock.second // 10 * 10, microsecond=0)
        ages = {
            event.request_id: (end - utc(event.event_time)).total_seconds() for event in answers
        }
        ages = {name: age for name, age in ages.items() if age > 0}

        def per_second(seconds: int, ages: dict[str, float] = ages) -> float:
            return sum(age <= seconds for age in ages.values()) / seconds

        latencies = [
            event.latency_ms
            for event in answers
            if event.latency_ms is not None and 0 < ages.get(event.request_id, 0) <= 300
        ]
        first = min(utc(event.event_time) for event in answers)
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


def check_signals(engine: Engine) -> None:
    """Hold the signal to the numbers beside it, and to what the policies make of them."""
    rows = engine.rows(
        """
        select signals.*, coalesce(sum(panes.inferences), 0) as timed
        from headrace.scaling_signal as signals
        left join panes.latency_panes as panes
            on panes.model = signals.model and grain = '10 seconds' and block is not null
            and pane_start >= window_end - interval '5 minutes' and pane_start < window_end
        group by
            signals.model, window_end, requests_per_second_1m, requests_per_second_5m,
            requests_per_second_60m, latency_mean_ms, latency_p95_ms, concurrency,
            trend_per_minute, trend_stderr, forecast_requests_per_second, signal
        """
    )
    for row in rows:
        slope, error = row["trend_per_minute"], row["trend_stderr"]
        rising = slope is not None and slope > 2 * error
        falling = slope is not None and slope < -2 * error
        p95, limit = row["latency_p95_ms"], CLEAR_RATIO * MAX_LATENCY_MS
        wanted = "steady"
        if row["timed"] >= MIN_SAMPLE:
            if p95 >= MAX_LATENCY_MS or (p95 >= limit and rising):
                wanted = "up"
            elif p95 < limit and falling:
                wanted = "down"
        assert row["signal"] == wanted, row


# --- forecasts ---------------------------------------------------------------------------------


def forecasts(oracle: Oracle) -> dict[tuple[Any, ...], Row]:
    expected = {}
    for model, (clock, answers) in by_model(oracle).items():
        version = "v1" if model == MODELS[0] else None
        served = [
            event
            for event in answers
            if event.variant == "champion" and version in (None, event.model_version)
        ]
        if not served:
            continue
        since = min(utc(event.event_time) for event in served)
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
                row = forecast(metric, model, x, [value for _, value in values.values()])
                row["examples"] = sum(number for number, _ in values.values())
                row["crosses_within_horizon"] &= row["examples"] >= MIN_SAMPLE
                expected[model, metric] = {
                    **row, "model_version": version, "grain": "1 day" if daily else "1 hour",
                    "window_start": start, "window_end": clock, "points": len(values),
                }  # fmt: skip
    return expected


def measure(oracle: Oracle, metric: str, events: list[Inference]) -> tuple[int, float] | None:
    """How many answers a point speaks of, and its value."""
    if metric == "error_rate":
        return len(events), sum(event.error is not None for event in events) / len(events)
    truth = {
        event.request_id: label
        for event in events
        if event.request_id in oracle.labels
        and (label := as_class(oracle.labels[event.request_id].label)) is not None
    }
    judged = [event for event in events if event.request_id in truth]
    if metric == "accuracy":
        called = [event for event in judged if as_class(event.prediction) is not None]
        right = sum(event.prediction == truth[event.request_id] for event in called)
        return (len(called), right / len(called)) if called else None
    scores = {e.request_id: e.score for e in judged if e.score is not None}
    y = [truth[name] == oracle.positive for name in scores]
    p = np.clip(list(scores.values()), 1e-6, 1 - 1e-6)
    return (len(y), float(log_loss(y, p, labels=[0, 1]))) if y else None


def forecast(metric: str, model: str, x: list[float], y: list[float]) -> Row:
    slope, stderr, r_squared, line = fit(x, y)
    baseline = None
    if metric != "error_rate":
        promoted = BASELINES[f"baseline_{metric}"] if model == MODELS[0] else None
        baseline = promoted if isinstance(promoted, float) else y[0]
    worse = -1 if metric == "accuracy" else 1
    threshold = MAX_ERROR_RATE if baseline is None else baseline * (1 + worse * MAX_DROP)
    ahead = None
    if slope is not None and stderr is not None and slope * worse > 0:
        middle = sum(x) / len(x)
        offset = (threshold - line(middle)) / slope
        ahead = middle + offset if abs(offset) <= 36525 else None
    soon = ahead is not None and timedelta(days=ahead) <= HORIZON
    row = {
        "value_now": None if slope is None else line(0),
        "slope_per_day": slope,
        "slope_stderr": stderr,
        "baseline": baseline,
        "threshold": threshold,
        "crosses_within_horizon": soon and abs(slope or 0) > 2 * (stderr or 0),
    }
    if metric != "log_loss":  # a millionth decides whether such points are a constant
        row |= {"r_squared": r_squared, "days_ahead": ahead}
    return row

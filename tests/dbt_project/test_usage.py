"""Sessions, reports, named scores, capacity and forecasts, against plain Python over the events."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.closeness import MICRO, SKETCH, close
from tests.support.label_oracle import Silence
from tests.support.oracle import Oracle
from tests.support.policies import STRETCHES, set_policies, stretched
from tests.support.rewards import SILENCES, Story
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, MODELS, START, Stream, first_of_each, send, streams
from tests.support.usage_oracle import (
    BASELINES,
    CLEAR_RATIO,
    MAX_LATENCY_MS,
    MIN_SAMPLE,
    Row,
    forecasts,
    named_scores,
    reports,
    scaling,
    sessions,
)

EXAMPLES = settings(EXAMPLES, max_examples=15)
# Latencies and log scores are summed in millionths, each off by half of one.
MEAN: dict[str, float] = {"rel": 1e-9, "abs": MICRO}
# SciPy adds the same doubles up in another order.
FIT: dict[str, float] = {"rel": 1e-6, "abs": 1e-9}
# A line through points that are off by a millionth, and less than an hour apart.
SLOPE: dict[str, float] = {"rel": 1e-4, "abs": 100 * MICRO}

POLICIES = {
    "session_gap": "90 minutes", "forecast_horizon": "2 days", "min_sample": "3",
    "max_latency_ms": "4000", "max_report_rate": "20000", "max_error_rate": "0.3",
    "drift_alpha": "0.05",
}  # fmt: skip


def champion() -> list[tuple[Topic, Event]]:
    """The first model has a champion; the second one has none."""
    step = {"event_time": START.isoformat(), "model": MODELS[0], "model_version": "v1"}
    return [
        ("model_events", parse("model_events", {**step, "event": "trained", "metrics": BASELINES})),
        ("model_events", parse("model_events", {**step, "event": "promoted"})),
    ]


@EXAMPLES
@given(stream=streams(), stretch=STRETCHES, silence=SILENCES)
def test_usage_views_equal_recompute(
    engine: Engine, log: EventLog, stream: Stream, stretch: float, silence: Silence | None
) -> None:
    empty(engine)
    set_policies(engine, **POLICIES)
    send(log, champion())
    check(engine, log, stretched(stream, stretch), silence)


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
        rows = engine.rows("select status from headrace.metric_forecast")
        assert len({row["status"] for row in rows}) > 1


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
        inference = {
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
        batch.append(("inference", parse("inference", inference)))
        batch.append(("feedback", parse("feedback", {**said, **kind, "feedback_id": f"f{number}"})))
    return Stream(batches)


def check(engine: Engine, log: EventLog, stream: Stream, silence: Silence | None = None) -> None:
    story = Story(stream, [], silence)
    story.govern(engine)
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        events = first_of_each(Stream(stream.batches[: number + 1]))
        oracle = Oracle(*events, silence=story.silence)
        compare(engine, "user_sessions", sessions(oracle))
        compare(engine, "report_rate", reports(oracle))
        compare(engine, "named_scores", named_scores(oracle))
        compare(engine, "scaling_signal", scaling(oracle))
        compare(engine, "metric_forecast", forecasts(oracle))
        check_signals(engine)


KEYS = {
    "user_sessions": ("model", "user_id", "session_id", "session_start"),
    "report_rate": ("model", "window_name"),
    "named_scores": ("model", "model_version", "name"),
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

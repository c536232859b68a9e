"""The load of models as autoscalers read it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.gateway.scaling import NUMBERS, loads


def send(engine: Engine, model: str, ago: timedelta, **fields: Any) -> None:
    """Store 120 predictions over the two minutes before `ago`."""
    end = datetime.now(UTC) - ago
    with EventLog(engine) as log:
        log.append(
            "inference",
            [
                parse("inference", {
                    "model": model, "event_time": (end - timedelta(seconds=second)).isoformat(),
                    **fields,
                })
                for second in range(120)
            ],
        )  # fmt: skip


def shown(http: httpx.Client) -> dict[tuple[str, str], float]:
    return {
        (sample.name.removeprefix("headrace_"), sample.labels["model"]): sample.value
        for family in text_string_to_metric_families(http.get("/metrics").text)
        for sample in family.samples
        if "model" in sample.labels
    }


def test_live_models_count_and_silent_ones_are_zero(http: httpx.Client, engine: Engine) -> None:
    assert http.get("/v1/scaling").json() == {**dict.fromkeys(NUMBERS, 0), "models": {}}
    send(engine, "untimed", timedelta())
    assert http.get("/v1/scaling").json()["concurrency"] is None
    send(engine, "live", timedelta(), latency_ms=2000)
    send(engine, "silent", timedelta(minutes=6), latency_ms=2000)
    body = http.get("/v1/scaling").json()
    live, silent, untimed = (body["models"][name] for name in ("live", "silent", "untimed"))
    (row,) = engine.rows("select * from headrace.scaling_signal where model = 'live'")
    assert live == {
        "requests_per_second": row["requests_per_second_1m"],
        "forecast_requests_per_second": row["forecast_requests_per_second"],
        "concurrency": row["concurrency"],
        "latency_p95_ms": row["latency_p95_ms"],
        "signal": row["signal"],
    }
    assert live["requests_per_second"] == pytest.approx(1, rel=0.2) and live["signal"] == "up"
    assert (silent["concurrency"], silent["signal"]) == (0, "down")
    assert untimed["concurrency"] is None
    for name in NUMBERS:
        counted = [each[name] for each in (live, silent, untimed) if each[name] is not None]
        assert body[name] == pytest.approx(sum(counted))
    metrics = shown(http)
    assert metrics["concurrency", "live"] == live["concurrency"]
    assert metrics["requests_per_second", "silent"] == 0
    assert ("concurrency", "untimed") not in metrics
    assert [metrics["scaling_signal", name] for name in ("live", "silent")] == [1, -1]


def test_a_model_falls_silent_by_the_wall_clock(engine: Engine) -> None:
    send(engine, "m", timedelta())
    now = datetime.now(UTC)
    assert loads(engine, now)["m"]["requests_per_second"] > 0
    assert loads(engine, now + timedelta(minutes=6))["m"]["requests_per_second"] == 0

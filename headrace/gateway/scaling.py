"""The load of the models, for autoscalers: what ``headrace.scaling_signal`` shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.engine import Engine

# A model whose clock is further behind has no requests now: its clock stands still without them.
SILENT_AFTER = timedelta(minutes=5)
NUMBERS = ("requests_per_second", "forecast_requests_per_second", "concurrency")
_LOADS = """
select
    model,
    window_end,
    requests_per_second_1m as requests_per_second,
    forecast_requests_per_second,
    concurrency,
    latency_p95_ms,
    signal
from headrace.scaling_signal
order by model
"""


def loads(engine: Engine, now: datetime | None = None) -> dict[str, dict[str, Any]]:
    """Return the load of each model: NUMBERS, `latency_p95_ms` (null if not known) and `signal`.

    A model without a request for SILENT_AFTER, by the wall clock, has zeros and the signal `down`.
    Times of a replay are past, so it scales nothing.
    """
    now = now or datetime.now(UTC)
    found = {}
    for row in engine.rows(_LOADS):
        if row.pop("window_end") < now - SILENT_AFTER:
            row |= {**dict.fromkeys(NUMBERS, 0.0), "latency_p95_ms": None, "signal": "down"}
        found[row.pop("model")] = row
    return found


def scaling(engine: Engine) -> dict[str, Any]:
    """Return the sum of each of NUMBERS over the models where it is known, and their loads.

    A sum of nothing known is null, unless there is no model.
    """
    models = loads(engine)
    sums = {}
    for name in NUMBERS:
        known = [load[name] for load in models.values() if load[name] is not None]
        sums[name] = sum(known) if known or not models else None
    return {**sums, "models": models}

"""Customers of whom some leave: numbers and words that a model can learn from."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.engine import Engine
from headrace.events.contract import Event, parse
from headrace.events.log import EventLog

MODEL = "churn/éàü"
START = datetime(2025, 1, 1, tzinfo=UTC)


def customers(
    count: int, seed: int, day: int = 0, model: str = MODEL
) -> Iterator[tuple[Event, Event]]:
    """Inferences with their feedback; who pays a lot and complains, leaves."""
    rng = random.Random(seed)
    for number in range(count):
        bill, calls = rng.uniform(0, 200), rng.randint(0, 9)
        leaves = bill / 200 + calls / 9 + rng.gauss(0, 0.15) > 1
        time = START + timedelta(days=day, minutes=number)
        body: dict[str, Any] = {
            "model": model,
            "model_version": "rules-1",
            "request_id": f"{seed}-{number}",
            "event_time": time.isoformat(),
            "segment": rng.choice(["eu", "us", None]),
            "features": {
                "bill": bill,
                "calls": calls,
                "plan": rng.choice(["a", "b"]),
                "vip": False,
            },
            "prediction": "stays",
            "score": 0.5,
        }
        judged = {
            "request_id": body["request_id"],
            "event_time": (time + timedelta(hours=3)).isoformat(),
            "label": "leaves" if leaves else "stays",
        }
        yield parse("inference", body), parse("feedback", judged)


def send(engine: Engine, pairs: Iterator[tuple[Event, Event]]) -> None:
    inference, feedback = zip(*pairs, strict=True)
    with EventLog(engine) as log:
        log.append("inference", list(inference))
        log.append("feedback", list(feedback))

"""Events around the hour at which the clocks of a time zone go back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.events.contract import Event, Topic, parse

# New York's clocks go back at 06:00 on 3 November, after this time and before the models' clocks.
EDGE = datetime(2024, 11, 2, 20, 0, tzinfo=UTC)
DAYS = (1, 2, 3, 7, 30, 400)


def around_a_change() -> Iterator[tuple[Topic, Event]]:
    """Of each model the events two hours around EDGE, and a last one some days after EDGE."""
    for days in DAYS:
        model = f"m{days}"
        for version, event in (("0", "promoted"), ("1", "promoted"), ("2", "canary")):
            at = EDGE - timedelta(hours=4) + timedelta(minutes=int(version))
            life = {"event_id": f"{model} {version}", "event_time": at.isoformat()}
            life |= {"model": model, "model_version": version, "event": event}
            yield "model_events", parse("model_events", life)
        minutes = [10 * number for number in range(-12, 13) if number]
        times = [EDGE + timedelta(minutes=m) for m in minutes] + [EDGE + timedelta(days=days)]
        for number, at in enumerate(times):
            told: dict[str, Any] = {
                "model": model, "model_version": "2" if number % 4 == 3 else "1",
                "variant": ("champion", "champion", "holdout", "canary")[number % 4],
                "request_id": f"{model} {number}", "event_time": at.isoformat(),
                "segment": "ab"[number % 2], "user_id": f"u{number % 3}",
                "item_id": f"i{number % 2}", "features": {"x": number}, "score": number / 30,
                "prediction": "yes" if number > 12 else "no", "propensity": 0.5,
                "latency_ms": 5, "error": "timeout" if number % 5 == 0 else None,
            }  # fmt: skip
            yield "inference", parse("inference", told)
            shadow = {"variant": "shadow", "shadow_of": told["request_id"]}
            shadow |= {"request_id": f"{model} shadow {number}", "model_version": "3"}
            yield "inference", parse("inference", {**told, **shadow})
            said: list[dict[str, Any]] = [{"label": "yes" if number % 3 else "no"}]
            said += [{"kind": "report"}] if number % 4 == 0 else []
            said += [{"kind": "rating", "value": 0.5}] if number % 6 == 0 else []
            if number:
                said += [{"kind": "preference", "rejected_request_id": f"{model} {number - 1}"}]
            for place, each in enumerate(said if number % 7 else []):
                each |= {
                    "request_id": told["request_id"],
                    "feedback_id": f"{model} {number} {place}",
                }
                late = timedelta(days=2 if number % 5 == 2 else 0, minutes=1)
                yield "feedback", parse("feedback", {**each, "event_time": (at + late).isoformat()})

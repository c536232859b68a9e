"""A story that gives every mart a row."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

from headrace.events.contract import Event, ModelEvent, Topic, parse
from tests.support.rewards import Story, crowd
from tests.support.streams import MODELS, START


def crowded(ended: bool = False) -> Story:
    """A story that gives every mart a row, last_runs only where a run has `ended`."""
    steps = [("older", "promoted", -800), ("v1", "promoted", -700), ("v2", "canary", -650)]
    if ended:
        steps.insert(0, ("v0", "rejected", -750))
    lives = [
        parse(
            "model_events",
            {
                "model": MODELS[0], "model_version": version, "event": event, "event_id": version,
                "event_time": (START + timedelta(minutes=at)).isoformat(), "artifact_uri": "a",
            },
        )
        for version, event, at in steps
    ]  # fmt: skip
    stream = crowd(random.Random(3))
    stream.batches.append([*visitors()])
    return Story(stream, cast(list[ModelEvent], lives))


def visitors() -> Iterator[tuple[Topic, Event]]:
    """Events that the crowd lacks: users, items and sessions, features that drift, orphans."""
    for number in range(400):
        yield (
            "inference",
            parse(
                "inference",
                {
                    "model": MODELS[0], "model_version": "v2" if number % 5 == 3 else "v1",
                    "request_id": f"visit{number}",
                    "event_time": (START + timedelta(minutes=6 * number)).isoformat(),
                    "segment": "ab"[number % 2], "user_id": f"u{number % 7}",
                    "item_id": f"i{number % 5}", "session_id": f"s{number // 10}",
                    "features": {"amount": number**1.5, "country": "DE" if number < 200 else "FR"},
                    "prediction": "yes" if number % 3 else "no", "score": 0.5 + number / 1000,
                    "input": "The door is " + ("open." if number < 200 else "closed, as before."),
                    "latency_ms": 5 + number % 50, "error": None if number % 40 else "timeout",
                },
            ),
        )  # fmt: skip
        if number % 50 == 0:
            yield from reviews(number)
        said = {"request_id": f"visit{number}" if number % 20 else f"nobody{number}"}
        at = START + timedelta(minutes=6 * number + number % 300)
        if number % 30 == 3:  # a click before its prediction
            at -= timedelta(hours=6)
        kinds: list[dict[str, Any]] = [
            {"label": "yes"}, {"label": "no"}, {"kind": "report"},
            {"kind": "click" if number % 12 < 6 else "conversion"},
            {"kind": "rating", "value": 0.00002 * (number % 7), "metadata": {"name": "tone"}},
        ]  # fmt: skip
        kinds += [{"kind": "preference", "rejected_request_id": f"visit{number - 1}"}]
        yield (
            "feedback",
            parse(
                "feedback",
                {"feedback_id": f"v{number}", "event_time": at.isoformat(), **said}
                | kinds[number % 6],
            ),
        )


def reviews(number: int) -> Iterator[tuple[Topic, Event]]:
    """What reviewers say of a visit: the first one alone, or two of them."""
    for reviewer in ("ann", "bob")[: 1 + number // 50 % 2]:
        said = {
            "request_id": f"visit{number}", "feedback_id": f"{reviewer}{number}", "source": "human",
            "label": "yes" if reviewer == "ann" or number % 4 else "no", "user_id": reviewer,
            "event_time": (START + timedelta(minutes=6 * number + 7)).isoformat(),
        }  # fmt: skip
        yield "feedback", parse("feedback", said)

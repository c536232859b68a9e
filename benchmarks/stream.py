"""The stream that the benchmarks send: 1,000 predictions a second of two models, with feedback."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, cast

import msgspec

from headrace.events.contract import (
    Event,
    Feedback,
    Inference,
    Lifecycle,
    ModelEvent,
    Topic,
    Variant,
)

START = datetime(2025, 1, 1, tzinfo=UTC)
RATE = 1_000
MODELS = ("m0", "m1")
# Share of predictions that get feedback, and its mean delay.
LABELED, DELAY_S = 0.3, 60.0
# Version and share of the traffic of each variant.
SHARES: dict[Variant, tuple[str, float]] = {
    "champion": ("v0", 0.88),
    "canary": ("v1", 0.06),
    "holdout": ("v0", 0.02),
    "explore": ("v0", 0.02),
    "shadow": ("v2", 0.02),
}


def stream(
    count: int, seed: int = 0, start: int = 0, waiting: Sequence[Feedback] = ()
) -> Iterator[tuple[Topic, Event]]:
    """Make `count` events in the order in which they happen; 23 % of them are feedback.

    Two models, three versions in five variants, four segments; three numeric features, two
    categories and a flag; 20,000 users, some of them frequent, 1,000 items; predictions follow
    scores, labels follow both; 1 % errors; of the feedback 1 % reports and 1 % preferences. `start`
    is the number of earlier predictions, `waiting` the feedback on them that is still to come
    (without it there is little feedback in the first minutes).
    """
    return islice(_in_order(predictions(seed, start), waiting), count)


def _in_order(
    pairs: Iterator[tuple[Inference, Feedback | None]], waiting: Sequence[Feedback]
) -> Iterator[tuple[Topic, Event]]:
    due = [(moment(feedback), feedback.feedback_id, feedback) for feedback in waiting]
    heapq.heapify(due)
    for inference, feedback in pairs:
        while due and due[0][0] <= moment(inference):
            yield "feedback", heapq.heappop(due)[2]
        yield "inference", inference
        if feedback is not None:
            heapq.heappush(due, (moment(feedback), feedback.feedback_id, feedback))


def predictions(seed: int = 0, start: int = 0) -> Iterator[tuple[Inference, Feedback | None]]:
    """Make predictions without end, each with the feedback it will get."""
    rng = random.Random(seed)
    before: dict[str, Inference] = {}
    number = start
    while True:
        model = MODELS[number % len(MODELS)]
        inference = _inference(rng, f"{seed}-{rng.getrandbits(64):016x}", number)
        feedback = None
        if inference.variant == "shadow" and model in before:
            inference = msgspec.structs.replace(inference, shadow_of=before[model].request_id)
        elif rng.random() < LABELED:
            feedback = _feedback(rng, inference, before.get(model, inference))
        if inference.variant != "shadow":
            before[model] = inference
        yield inference, feedback
        number += 1


def _inference(rng: random.Random, request_id: str, number: int) -> Inference:
    score = rng.betavariate(1.2, 2.0)
    (variant,) = rng.choices(list(SHARES), [share for _, share in SHARES.values()])
    return Inference(
        model=MODELS[number % len(MODELS)],
        model_version=SHARES[variant][0],
        request_id=request_id,
        event_time=START + timedelta(seconds=number / RATE),
        variant=variant,
        endpoint=rng.choice(["web", "app"]),
        segment=f"s{rng.randrange(4)}",
        user_id=f"u{int(20_000 * rng.random() ** 3)}",
        item_id=f"i{int(1_000 * rng.random() ** 2)}",
        features={
            "amount": rng.lognormvariate(3, 1),
            "age": rng.randint(18, 90),
            "ratio": rng.random(),
            "country": rng.choice(["de", "fr", "it", "es"]),
            "plan": rng.choice(["a", "b"]),
            "vip": rng.random() < 0.1,
        },
        prediction="yes" if score >= 0.5 else "no",
        score=score,
        propensity=round(rng.uniform(0.2, 1), 2),
        latency_ms=rng.lognormvariate(2, 0.5),
        error="timeout" if rng.random() < 0.01 else None,
    )


def _feedback(rng: random.Random, inference: Inference, other: Inference) -> Feedback:
    assert inference.score is not None
    delay = timedelta(seconds=rng.expovariate(1 / DELAY_S))
    fields: dict[str, Any]
    match rng.random():
        case chance if chance < 0.01:
            fields = {"kind": "report"}
        case chance if chance < 0.02:
            fields = {"kind": "preference", "rejected_request_id": other.request_id}
        case _:
            fields = {"label": "yes" if rng.random() < inference.score else "no"}
    return Feedback(
        feedback_id=f"f-{inference.request_id}",
        request_id=inference.request_id,
        event_time=moment(inference) + delay,
        user_id=inference.user_id,
        **fields,
    )


def moment(event: Event) -> datetime:
    """Return the time of an event, which all events of this module have."""
    assert event.event_time is not None
    return event.event_time


def versions() -> list[ModelEvent]:
    """Return the lifecycle of the versions: trained, then serving."""
    trained = {
        "positive_label": "yes", "baseline_auc": 0.7,
        "train_from": START.timestamp(), "train_to": START.timestamp() + 50,
    }  # fmt: skip
    return [
        ModelEvent(
            model=model,
            model_version=version,
            event=event,
            event_id=f"{model}/{version}/{event}",
            event_time=START - timedelta(minutes=minutes),
            traffic=share,
            metrics=trained,
        )
        for model in MODELS
        for version, share, steps in [
            ("v0", 1.0, ("trained", "promoted")),
            ("v1", SHARES["canary"][1], ("trained", "canary")),
            ("v2", SHARES["shadow"][1], ("trained", "shadow")),
        ]
        for event, minutes in zip(cast(tuple[Lifecycle, ...], steps), (20, 10), strict=True)
    ]

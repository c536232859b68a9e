"""The stream that the benchmarks send: two models at 1,000 answers a second, and what came back."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import cast

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
# Three answers in ten are judged, after this many seconds on average.
JUDGED, DELAY_S = 0.3, 60.0
# Who answers, and how often.
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

    Two models, three versions in five roles, four segments; three numeric features, two categories
    and a flag; 20,000 users of whom some come often, 1,000 items; predictions follow scores, labels
    follow both; 1 % errors, and of the opinions 1 % reports and 1 % preferences. `start` is the
    number of answers that came before, `waiting` the opinions on them that are still to come
    (without them, opinions are few in the first minutes).
    """
    return islice(_in_order(answers(seed, start), waiting), count)


def _in_order(
    pairs: Iterator[tuple[Inference, Feedback | None]], waiting: Sequence[Feedback]
) -> Iterator[tuple[Topic, Event]]:
    due = [(moment(opinion), opinion.feedback_id, opinion) for opinion in waiting]
    heapq.heapify(due)
    for answer, opinion in pairs:
        while due and due[0][0] <= moment(answer):
            yield "feedback", heapq.heappop(due)[2]
        yield "inference", answer
        if opinion is not None:
            heapq.heappush(due, (moment(opinion), opinion.feedback_id, opinion))


def answers(seed: int = 0, start: int = 0) -> Iterator[tuple[Inference, Feedback | None]]:
    """Make answers without end, each with what will be said about it."""
    rng = random.Random(seed)
    before: dict[str, Inference] = {}
    number = start
    while True:
        model = MODELS[number % len(MODELS)]
        answer = _answer(rng, f"{seed}-{rng.getrandbits(64):016x}", number)
        opinion = None
        if answer.variant == "shadow" and model in before:
            answer = msgspec.structs.replace(answer, shadow_of=before[model].request_id)
        elif rng.random() < JUDGED:
            opinion = _opinion(rng, answer, before.get(model, answer))
        if answer.variant != "shadow":
            before[model] = answer
        yield answer, opinion
        number += 1


def _answer(rng: random.Random, request_id: str, number: int) -> Inference:
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


def _opinion(rng: random.Random, answer: Inference, other: Inference) -> Feedback:
    assert answer.score is not None
    opinion = Feedback(
        feedback_id=f"f-{answer.request_id}",
        request_id=answer.request_id,
        event_time=moment(answer) + timedelta(seconds=rng.expovariate(1 / DELAY_S)),
        user_id=answer.user_id,
    )
    match rng.random():
        case chance if chance < 0.01:
            opinion.kind = "report"
        case chance if chance < 0.02:
            opinion.kind = "preference"
            opinion.rejected_request_id = other.request_id
        case _:
            opinion.label = "yes" if rng.random() < answer.score else "no"
    return opinion


def moment(event: Event) -> datetime:
    """Return the event's time, which all events of this module have."""
    assert event.event_time is not None
    return event.event_time


def versions() -> list[ModelEvent]:
    """How the versions came to be: what each model trained, and then served."""
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

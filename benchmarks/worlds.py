"""Streams for `benchmarks/statistics.py`: models in which nothing changes, or one thing does."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.load import Batch
from benchmarks.stream import START
from headrace.events.contract import Feedback, Inference, Lifecycle, ModelEvent, Variant

# Of the logit of the true probability, which is the score: an AUC of about .85.
SLOPE = 2.0
CLICK_RATE = 0.1
# Visitors of a model, whose own rates have that mean and a standard deviation of .12.
PEOPLE = 400
SHARES: dict[Variant, float] = {"champion": 0.4, "canary": 0.4, "holdout": 0.2}
VERSIONS: dict[Variant, str] = {"champion": "v0", "canary": "v1", "holdout": "v0"}


class World(msgspec.Struct, frozen=True):
    """What a model's events are drawn from. Defaults: what holds before any change."""

    # classifiers
    age: float = 0.0  # standard deviations by which its mean moves
    plans: tuple[float, ...] = (0.2, 0.8)
    slope: float = SLOPE  # of the labels' logit; the score keeps SLOPE
    # clicks
    canary_rate: float = CLICK_RATE


class Plan(msgspec.Struct, frozen=True):
    """A kind of model: what changes in it, `since` hours after its start."""

    name: str
    task: str  # classify, click, or visit: clicks of people who stay with a version
    after: World = World()


STEADY = (Plan("classify", "classify"), Plan("click", "click"), Plan("visit", "visit"))
CHANGED = (
    Plan("mean +0.5 sd", "classify", World(age=0.5)),
    Plan("a category of 0.2 doubles", "classify", World(plans=(0.4, 0.6))),
    Plan("AUC -0.05", "classify", World(slope=1.5)),
    Plan("canary's CTR -20 %", "click", World(canary_rate=0.8 * CLICK_RATE)),
)


def versions(model: str, auc: float) -> list[ModelEvent]:
    """The lifecycle of a model's two versions, before its first prediction."""
    steps: list[tuple[str, Lifecycle, float | None]] = [
        ("v0", "trained", None), ("v0", "promoted", None),
        ("v1", "trained", None), ("v1", "canary", 0.5),
    ]  # fmt: skip
    return [
        ModelEvent(
            model=model,
            model_version=version,
            event=event,
            event_id=f"{model}/{version}/{event}",
            event_time=START - timedelta(minutes=10 - place),
            traffic=traffic,
            metrics={"positive_label": "yes", "baseline_auc": auc, "baseline_rows": 10_000},
        )
        for place, (version, event, traffic) in enumerate(steps)
    ]


def hour(rng: np.random.Generator, plan: Plan, model: str, number: int, rows: int,
         since: int) -> Batch:  # fmt: skip
    """The predictions of one hour of a model and their feedback, a minute later."""
    world = plan.after if number >= since else World()
    began = START + timedelta(hours=number)
    times = [began + timedelta(seconds=3_500 * place / rows) for place in range(rows)]
    if plan.task == "visit":
        variants, drawn = _visited(rng, model, rows)
    else:
        variants = _variants(rng, rows)
        drawn = (_classified if plan.task == "classify" else _clicked)(rng, world, variants)
    inferences: list[Inference] = []
    feedback: list[Feedback] = []
    for place, (said, heard) in enumerate(drawn):
        request_id = f"{model}/{number}/{place}"
        inferences.append(
            Inference(
                model=model,
                model_version=VERSIONS[variants[place]],  # type: ignore[index]
                variant=variants[place],  # type: ignore[arg-type]
                request_id=request_id,
                event_time=times[place],
                **said,
            )
        )
        feedback.append(
            Feedback(
                request_id=request_id,
                model=model,
                feedback_id=f"f/{request_id}",
                event_time=times[place] + timedelta(minutes=1),
                **heard,
            )
        )
    return [("inference", inferences), ("feedback", feedback)]


Drawn = Iterator[tuple[dict[str, Any], dict[str, Any]]]


def _classified(rng: np.random.Generator, world: World, variants: list[str]) -> Drawn:
    rows = len(variants)
    logit = rng.normal(size=rows)
    score = sigmoid(SLOPE * logit)
    positive = rng.random(rows) < sigmoid(world.slope * logit)
    features = {
        "age": rng.normal(world.age, 1, rows),
        "amount": rng.lognormal(0, 2, rows),
        "stars": rng.integers(1, 6, rows),
        "plan": _named(rng.choice(2, rows, p=world.plans)),
        "country": _named(rng.choice(50, rows, p=_zipf(50))),
        "sku": _named(rng.integers(0, 2_000, rows)),
    }
    listed = {name: values.tolist() for name, values in features.items()}
    words = _named(rng.choice(1_000, (rows, 10), p=_zipf(1_000)))
    segments = rng.integers(0, 5, rows)
    for place in range(rows):
        yield (
            {
                "segment": f"segment {segments[place]}",
                "input": " ".join(words[place]),
                "features": {name: values[place] for name, values in listed.items()},
                "score": float(score[place]),
                "prediction": "yes" if score[place] >= 0.5 else "no",
                "latency_ms": 10.0,
            },
            {"label": "yes" if positive[place] else "no"},
        )


def _clicked(rng: np.random.Generator, world: World, variants: list[str]) -> Drawn:
    rates = np.where(np.array(variants) == "canary", world.canary_rate, CLICK_RATE)
    yield from _clicks(rng, rates)


def _clicks(rng: np.random.Generator, rates: NDArray[np.float64]) -> Drawn:
    clicks = rng.random(rates.size) < rates
    items = rng.integers(0, 20, rates.size)
    for item, click in zip(items.tolist(), clicks.tolist(), strict=True):
        yield {"prediction": f"item {item}", "latency_ms": 10.0}, {"kind": "click", "value": click}


def _visited(rng: np.random.Generator, model: str, rows: int) -> tuple[list[str], Drawn]:
    """Visits of the same people hour by hour: each has a rate and a variant for good."""
    fixed = np.random.default_rng(zlib.crc32(model.encode()))
    rates = fixed.beta(0.5, 0.5 / CLICK_RATE - 0.5, PEOPLE)
    variants = _variants(fixed, PEOPLE)
    people = rng.integers(0, PEOPLE, rows)
    drawn = (
        ({**said, "user_id": f"u{person}"}, heard)
        for person, (said, heard) in zip(people, _clicks(rng, rates[people]), strict=True)
    )
    return [variants[person] for person in people], drawn


def _variants(rng: np.random.Generator, rows: int) -> list[str]:
    return [str(name) for name in rng.choice(list(SHARES), rows, p=list(SHARES.values()))]


def _named(numbers: NDArray[np.int64]) -> NDArray[np.str_]:
    letters = np.array([f"c{chr(97 + n // 100)}{chr(97 + n // 10 % 10)}{chr(97 + n % 10)}"
                        for n in range(2_000)])  # fmt: skip
    return letters[numbers]


def _zipf(levels: int) -> NDArray[np.float64]:
    weights = 1 / np.arange(1, levels + 1)
    return np.asarray(weights / weights.sum())


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probability of a logit."""
    return np.asarray(1 / (1 + np.exp(-x)))

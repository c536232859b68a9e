"""Labelled examples whose label no single feature can tell."""

from __future__ import annotations

import numpy as np

from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample


def clicks(n: int, seed: int) -> list[TrainingExample]:
    """Numbers, a category and their interaction: what no single feature can tell."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        price, age, plan = rng.lognormal(3), rng.normal(), str(rng.choice(["pro", "free"]))
        wants = (price > 20) if plan == "pro" else (price < 20)
        features = {"price": None if rng.random() < 0.02 else float(price), "age": float(age)}
        made.append(
            TrainingExample(Example("", "eu", features | {"plan": plan}), "yes" if wants else "no")
        )
    return made

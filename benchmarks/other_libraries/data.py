"""The five data sets, drawn from one seed and handed to every library as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

ROWS, CATEGORY_ROWS, CURRENT_CATEGORIES = 5_000, 5_000, 1_000
HOURS, LABELS_AN_HOUR = 60, 100
CHANCE = {"a": (0.3, 0.5), "b": (0.5, 0.4), "c": (0.6, 0.2)}  # of a reward, by context
# How often the first was preferred to the second, and the second to the first.
PREFERENCES = {("v1", "v2"): (14, 26), ("v1", "v3"): (9, 31), ("v2", "v3"): (17, 23)}
PREFERENCES |= {("v3", "v4"): (0, 5)}


def draw() -> dict[str, Any]:
    """Return the sets by name, as plain lists.

    numbers, categories  `reference` and `current`, by column
    errors       whether each of HOURS * LABELS_AN_HOUR predictions was wrong: 10 %, then 20 %
    arms         `arm`, `reward` and `propensity` of each logged choice
    comparisons  pairs of versions, the preferred one first
    """
    rng = np.random.default_rng(7)
    levels = [f"level {number:02}" for number in range(30)]
    zipf = 1 / np.arange(1, 31)
    common = rng.choice(levels, CATEGORY_ROWS, p=zipf / zipf.sum())
    unseen = rng.choice(levels, CURRENT_CATEGORIES, p=zipf / zipf.sum())
    unseen[::50] = "new"
    wrong = np.repeat([0.1, 0.2], HOURS * LABELS_AN_HOUR // 2)
    context = rng.integers(0, 2, 2_000)
    propensity = np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6]])[context]
    arm = (rng.random((2_000, 1)) > propensity.cumsum(axis=1)).sum(axis=1)
    chance = np.array(list(CHANCE.values()))[arm, context]
    sets = {
        "numbers": {
            "reference": {
                "normal": rng.normal(0, 1, ROWS),
                "heavy": rng.lognormal(0, 2, ROWS),
                "counts": rng.poisson(3, ROWS).astype(float),
            },
            "current": {
                "normal": rng.normal(0.5, 1, ROWS),
                "heavy": rng.lognormal(0.5, 2, ROWS),
                "counts": rng.poisson(3.5, ROWS).astype(float),
            },
        },
        "categories": {
            "reference": {
                "two": rng.choice(["no", "yes"], CATEGORY_ROWS, p=[0.5, 0.5]),
                "many": rng.integers(100, 400, CATEGORY_ROWS).astype(str),
                "unseen": common,
            },
            "current": {
                "two": rng.choice(["no", "yes"], CURRENT_CATEGORIES, p=[0.55, 0.45]),
                "many": rng.integers(100, 400, CURRENT_CATEGORIES).astype(str),
                "unseen": unseen,
            },
        },
        "errors": (rng.random(len(wrong)) < wrong).astype(int),
        "arms": {
            "arm": np.array(list(CHANCE))[arm],
            "reward": (rng.random(2_000) < chance).astype(float),
            "propensity": propensity[np.arange(2_000), arm],
        },
        "comparisons": [
            pair
            for (first, second), (won, lost) in PREFERENCES.items()
            for pair in [(first, second)] * won + [(second, first)] * lost
        ],
    }
    plain: dict[str, Any] = json.loads(json.dumps(sets, default=np.ndarray.tolist))
    return plain

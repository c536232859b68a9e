"""The always-valid p-value of two proportions, with SciPy, and p-values of several tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats


def always_valid_p(case: Any, tau: float) -> Any:
    """The ratio of the densities of d under N(0, V) and under N(0, V + tau^2)."""
    s_a, n_a, s_b, n_b = case
    a, b, p = (s_a + 0.5) / (n_a + 1), (s_b + 0.5) / (n_b + 1), (s_a + s_b + 1) / (n_a + n_b + 2)
    unpooled = a * (1 - a) / n_a + b * (1 - b) / n_b
    variance = np.maximum(unpooled, p * (1 - p) * (1 / n_a + 1 / n_b))
    mixed = stats.norm.logpdf(a - b, scale=np.sqrt(variance + tau**2))
    return np.exp(np.minimum(stats.norm.logpdf(a - b, scale=np.sqrt(variance)) - mixed, 0))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: rejecting from the least one on, up to the first miss.

    By search: the least alpha at which the procedure rejects each.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    steps = [(len(order) - k) * p_values[i] for k, i in enumerate(order)]
    found = [1.0] * len(order)
    for place, i in enumerate(order):
        found[i] = min(
            (alpha for alpha in [*steps, 1.0] if all(s <= alpha for s in steps[: place + 1])),
            default=1.0,
        )
    return [min(p, 1.0) for p in found]

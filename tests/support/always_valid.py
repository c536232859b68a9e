"""The always-valid p-value of two proportions, with SciPy."""

from __future__ import annotations

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

"""How near a view must come to the recompute: numbers are stored in steps, bins and buckets."""

from __future__ import annotations

from typing import Any

import pytest

# Scores are summed in millionths: each of n rows is off by at most half of one.
MICRO = 1e-6
# A quantile is read from a bucket of 1 % relative error.
SKETCH = 0.0101
# A score counts as the middle of its bin: half the width of the widest, 0.0104.
SCORE_BIN = 0.0104 / 2


def close(actual: float | None, wanted: float | None, **tolerance: Any) -> bool:
    if actual is None or wanted is None:
        return actual is wanted
    return bool(actual == pytest.approx(wanted, **tolerance))

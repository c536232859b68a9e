"""How near a view must come to the recompute: numbers are stored in steps, bins and buckets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

# Scores are summed in millionths: each of n rows is off by at most half of one.
MICRO = 1e-6
# A quantile is read from a bucket of 1 % relative error.
SKETCH = 0.0101
# A score counts as the middle of its bin: half the width of the widest, 0.0104.
SCORE_BIN = 0.0104 / 2


def check_rows(
    rows: list[dict[str, Any]],
    keys: tuple[str, ...],
    expected: Mapping[tuple[Any, ...], Mapping[str, Any]],
    loose: Mapping[str, float],
) -> None:
    """Assert that a view has these rows by key; `loose` are absolute tolerances by column."""
    found = {tuple(row[key] for key in keys): row for row in rows}
    assert len(found) == len(rows) and found.keys() == expected.keys()
    for key, wanted in expected.items():
        for name, value in wanted.items():
            actual = found[key][name]
            if isinstance(value, float) or isinstance(actual, float):
                near = close(actual, value, rel=1e-6, abs=loose.get(name, 1e-9))
                assert near, (key, name, actual, value)
            else:
                assert actual == value, (key, name, actual, value)


def close(actual: float | None, wanted: float | None, **tolerance: Any) -> bool:
    if actual is None or wanted is None:
        return actual is wanted
    return bool(actual == pytest.approx(wanted, **tolerance))

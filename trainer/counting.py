"""Counting points of the plane that lie below and behind another one, for many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def dominated(x: Ints, y: Ints, weights: Ints, at_x: Ints, at_y: Ints) -> Ints:
    """Return for each query the sum of the weights of the points with x < at_x and y <= at_y.

    It descends a wavelet tree over the ranks of x, whose points lie in the order of y (Claude and
    Navarro, "The wavelet matrix", SPIRE 2012): (points + queries) × log(points) steps.

    Args:
        x, y: shape (points,).
        weights: shape (points, sums): several sums are made at once.
        at_x, at_y: shape (queries,).

    Returns:
        Shape (queries, sums).
    """
    by_x, by_y = np.argsort(x, kind="stable"), np.argsort(y, kind="stable")
    bound = np.searchsorted(x[by_x], at_x, side="left")
    last = np.searchsorted(y[by_y], at_y, side="right")
    first = np.zeros_like(last)
    ranks = np.empty_like(by_x)
    ranks[by_x] = np.arange(len(x))
    ranks, weights = ranks[by_y], weights[by_y]
    total = np.zeros((len(at_x), weights.shape[1]), dtype=np.int64)
    for bit in reversed(range(len(x).bit_length())):
        high = (ranks >> bit) & 1 == 1
        lows = _sums(~high)
        below = _sums(np.where(high[:, None], 0, weights))
        goes_high = (bound >> bit) & 1 == 1
        total += np.where(goes_high[:, None], below[last] - below[first], 0)
        first, last = (
            np.where(goes_high, lows[-1] + at - lows[at], lows[at]) for at in (first, last)
        )
        lows_first = np.argsort(high, kind="stable")
        ranks, weights = ranks[lows_first], weights[lows_first]
    return total


def _sums(values: NDArray[np.generic]) -> Ints:
    """The sum of the first 0, 1, 2, … values."""
    sums: Ints = np.zeros((len(values) + 1, *values.shape[1:]), dtype=np.int64)
    np.cumsum(values, axis=0, out=sums[1:])
    return sums

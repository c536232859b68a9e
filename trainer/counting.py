"""Counting points of the plane that lie below and behind another one, for many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
REACH = 64


def dominated(x: Ints, y: Ints, weights: Ints, at_x: Ints, at_y: Ints, reach: int = REACH) -> Ints:
    """Return for each query the sum of the weights of the points with x < at_x and y <= at_y.

    Points that have about the same order by x and by y cost one pass and `reach` steps a query;
    only what is out of this order costs more (`_of_any`).

    Args:
        x, y: shape (points,).
        weights: shape (points, sums): several sums are made at once.
        at_x, at_y: shape (queries,).
        reach: a point is in order if none that is so many places behind it by x is before it by y.

    Returns:
        Shape (queries, sums).
    """
    by_x = np.argsort(x, kind="stable")
    x, y, weights = x[by_x], y[by_x], weights[by_x]
    lowest_behind = np.minimum.accumulate(y[::-1])[::-1][reach:]
    in_order = np.ones(len(x), dtype=bool)
    in_order[: len(lowest_behind)] = y[: len(lowest_behind)] <= lowest_behind
    out = ~in_order
    return _of_ordered(x[in_order], y[in_order], weights[in_order], at_x, at_y, reach) + _of_any(
        x[out], y[out], weights[out], at_x, at_y
    )


def _of_ordered(x: Ints, y: Ints, weights: Ints, at_x: Ints, at_y: Ints, reach: int) -> Ints:
    """`dominated` for points that lie in the order of x and are in order.

    From the first one on that is above a query, only `reach` can be below it.
    """
    sums = _sums(weights)
    bound = np.searchsorted(x, at_x, side="left")
    first = np.minimum(np.searchsorted(np.maximum.accumulate(y), at_y, side="right"), bound)
    total: Ints = sums[first]
    for place in range(reach):
        at = first + place
        (left,) = np.nonzero(at < bound)
        if not len(left):
            break
        below = left[y[at[left]] <= at_y[left]]
        total[below] += weights[at[below]]
    return total


def _of_any(x: Ints, y: Ints, weights: Ints, at_x: Ints, at_y: Ints) -> Ints:
    """`dominated` for points in any order.

    It descends a wavelet tree over the ranks of x, whose points lie in the order of y (Claude and
    Navarro, "The wavelet matrix", SPIRE 2012): (points + queries) × log(points) steps.
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

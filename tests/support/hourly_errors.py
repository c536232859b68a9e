"""Errors by the hour, and when they rose."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime

import numpy as np


def page_hinkley(x: list[float], delta: float, weights: list[float]) -> list[float]:
    m, lowest = 0.0, math.inf
    found: list[float] = []
    for n, (value, weight) in enumerate(zip(x, weights, strict=True), start=1):
        m += weight * (value - float(np.average(x[:n], weights=weights[:n])) - delta)
        lowest = min(lowest, m)
        found.append(m - lowest)
    return found


def by_hour(errors: list[tuple[datetime, float]]) -> dict[datetime, list[float]]:
    found: dict[datetime, list[float]] = defaultdict(list)
    for time, error in errors:
        found[time].append(error)
    return found

"""Errors by the hour, and when they rose."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime


def page_hinkley(x: list[float], delta: float) -> list[float]:
    m, lowest, found = 0.0, math.inf, []
    for n, value in enumerate(x, start=1):
        m += value - sum(x[:n]) / n - delta
        lowest = min(lowest, m)
        found.append(m - lowest)
    return found


def by_hour(errors: list[tuple[datetime, float]]) -> dict[datetime, list[float]]:
    found: dict[datetime, list[float]] = defaultdict(list)
    for time, error in errors:
        found[time].append(error)
    return found

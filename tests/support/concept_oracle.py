"""The view concept_drift once more, naively: from all errors by the hour."""

from __future__ import annotations

import math
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from tests.support.hourly_errors import page_hinkley
from tests.support.oracle import Row

if TYPE_CHECKING:
    from tests.support.drift_oracle import Policies


def concept_drift(
    error_kind: str | None, errors: dict[datetime, list[float]], policies: Policies
) -> Row:
    """What concept_drift says of these errors by the hour."""
    points = _points(errors, error_kind, policies)
    row: Row = {"error_kind": error_kind, "status": "too few rows", "onset": "none"}
    row |= {"hours": len(errors), "points": len(points), "drifted_since": None}
    row["examples"] = sum(map(len, errors.values()))
    row |= dict.fromkeys(("statistic", "threshold", "mean_error", "last_error"))
    if not points:
        return row
    times, pooled = [time for time, _ in points], [errors for _, errors in points]
    x = [float(np.mean(errors)) for errors in pooled]
    statistic, limits = _page_hinkley(pooled, error_kind == "brier", policies)
    row |= {"mean_error": np.mean(x), "last_error": x[-1]}
    row |= {"statistic": statistic[-1], "threshold": limits[-1]}
    if len(points) < 2:
        return row
    row["status"] = "stable"
    if statistic[-1] >= limits[-1]:
        alarm = len(statistic)
        while statistic[alarm - 1] >= limits[alarm - 1]:
            alarm -= 1
        onset = max(i for i in range(alarm) if statistic[i] == 0)
        rise = max(
            statistic[i] - min(statistic[max(i - 3, 0) : i + 1])
            for i in range(onset + 1, alarm + 1)
        )
        kind = "sudden" if rise >= statistic[alarm] / 2 else "gradual"
        row |= {"status": "drifted", "onset": kind, "drifted_since": times[alarm]}
    return row


def _page_hinkley(
    pooled: list[list[float]], is_brier: bool, policies: Policies
) -> tuple[list[float], list[float]]:
    """The statistic of each point and what it is compared with."""
    sizes = np.array([len(errors) for errors in pooled])
    x = np.array([np.mean(errors) for errors in pooled])
    every = np.concatenate(pooled)
    squared = np.mean(every if is_brier else every**2)
    steps = np.diff(x) ** 2 / (1 / sizes[1:] + 1 / sizes[:-1])
    variance = max(squared - np.mean(every) ** 2, np.mean(steps) if len(steps) else 0, 0)
    variance /= np.mean(sizes)
    delta = max(policies.page_hinkley_delta, math.sqrt(variance) / 2)
    limits = [
        max(
            policies.page_hinkley_threshold,
            variance / (2 * delta) * math.log(n * (n + 1) / policies.drift_alpha),
        )
        for n in range(1, len(x) + 1)
    ]
    return page_hinkley(x.tolist(), delta, (sizes / np.mean(sizes)).tolist()), limits


def _points(
    errors: dict[datetime, list[float]], error_kind: str | None, policies: Policies
) -> list[tuple[datetime, list[float]]]:
    unit = 1.0
    if error_kind == "relative absolute error":
        unit = float(np.mean([x for time in sorted(errors)[:24] for x in errors[time]]))
        if unit == 0:
            return []
    pools: dict[int, list[datetime]] = defaultdict(list)
    before = 0
    for time in sorted(errors):
        pools[before // max(policies.min_sample, 1)].append(time)
        before += len(errors[time])
    points = []
    for times in pools.values():
        pooled = [x for time in times for x in errors[time]]
        if len(pooled) >= policies.min_sample / 2:
            points.append((times[0], [x / unit for x in pooled]))
    return points

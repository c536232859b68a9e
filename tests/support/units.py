"""How much more rewards vary for users who come back: one row a reward, by NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.events.contract import Inference
from tests.support.label_oracle import utc
from tests.support.oracle import Oracle

GROUPS, LEAST = 64, 8


@dataclass(frozen=True)
class Effects:
    """The design effects of a comparison; None where too few users tell nothing."""

    unit_groups: float | None = None
    difference: float | None = 1
    side: float | None = 1
    base: float | None = 1


def day_of(time: Any) -> int:
    return int(utc(time).timestamp() // 86_400)


def group_of(unit: str) -> str:
    digits = hashlib.md5(f"unit {unit}".encode()).hexdigest()
    return digits[0] + str(int(digits[1], 16) // 4)


def unit_effects(oracle: Oracle, events: Iterable[Inference], base: Iterable[Inference]) -> Effects:
    """Of the predictions of whole days on both sides whose labels count."""
    rows = [
        (
            day_of(event.event_time), is_base, group_of(known or event.request_id), bool(known),
            oracle.reward(event),
        )
        for is_base, side in ((False, events), (True, base))
        for event in side
        if event.request_id in oracle.settled
        for known in [event.user_id or event.session_id]
    ]  # fmt: skip
    if not any(row[3] for row in rows):
        return Effects()
    days, is_base, groups, _, rewards = map(np.array, zip(*rows, strict=True))
    return design_effects(days, is_base, groups, rewards)


def design_effects(strata: Any, is_base: Any, groups: Any, rewards: Any) -> Effects:
    """Of rewards some of whose units are known, by group; arrays of one length."""
    _, strata = np.unique(strata, return_inverse=True)
    _, groups = np.unique(groups, return_inverse=True)
    sides = (~is_base, is_base)
    sizes = [kish(groups[side]) for side in sides]
    present = [size for size in sizes if size]
    means = [grown(groups[side], rewards[side] - rewards[side].mean(), size)
             if side.any() else None for side, size in zip(sides, sizes, strict=True)]  # fmt: skip
    return Effects(min(present), of_difference(strata, is_base, groups, rewards, min(present)),
                   *means)  # fmt: skip


def of_difference(
    strata: Any, is_base: Any, groups: Any, rewards: Any, size: float
) -> float | None:
    """By least squares: the reward on the side and a constant of each stratum."""
    both = np.array([len({*is_base[strata == s]}) == 2 for s in strata], bool)
    if not both.any():
        return None if size < LEAST else 1.0
    strata, is_base, groups, rewards = strata[both], is_base[both], groups[both], rewards[both]
    side = (~is_base).astype(float)
    means = {s: side[strata == s].mean() for s in set(strata)}
    centred = side - np.array([means[s] for s in strata])
    slope = centred / (centred**2).sum()
    levels = {s: rewards[strata == s].mean() for s in set(strata)}
    residual = rewards - np.array([levels[s] for s in strata]) - centred * (slope @ rewards)
    scale = float((slope**2 * rewards**2).sum())
    return grown(groups, slope * residual, size, scale * 1e-20)


def grown(groups: Any, parts: Any, size: float, least: float = 0) -> float | None:
    """The sum of squares over groups by that over rows, for the number of groups."""
    if size < LEAST:
        return None
    squares = float((parts**2).sum())
    ratio = float((np.bincount(groups, parts) ** 2).sum()) / squares if squares > least else 0.0
    return 1 + max(ratio * GROUPS / (GROUPS - 1) - 1, 0) * size / (size - 3)


def kish(groups: Any) -> float:
    counts = np.bincount(groups) if len(groups) else np.zeros(1)
    return float(counts.sum() ** 2 / (counts**2).sum()) if counts.any() else 0.0

"""The buckets that the numbers of two samples are compared in, from the numbers themselves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

GAMMA = 1.0202020202020203
LEVELS = 4
# One number in so many, at either end of a side, may be far away.
END = 100


@dataclass(frozen=True)
class Bucket:
    """One of `level`, where buckets are 8 ** level times as narrow as DDSketch's."""

    level: int
    number: int

    @property
    def lowest(self) -> int:
        """The lowest of the finest buckets in it."""
        return self.number << 3 * (LEVELS - self.level)

    @property
    def value(self) -> float:
        """The number that it stands for, in the middle of its edges."""
        if self.number == 0:
            return 0.0
        parts = 1 << 3 * self.level
        top = (self.number - parts + 1 if self.number > 0 else -self.number) / parts - 50000
        middle = 2 * math.pow(GAMMA, top) / (math.pow(GAMMA, 1 / parts) + 1)
        return middle if self.number > 0 else -middle


def bucket_at(x: float, level: int) -> int:
    """The bucket of a level; that of the level above is an eighth of it, rounded down."""
    if x == 0:
        return 0
    parts = 1 << 3 * level
    steps = math.ceil(math.log(abs(x)) / math.log(GAMMA) * parts)
    return 50000 * parts + parts - 1 + steps if x > 0 else -50000 * parts - steps


def finest_buckets(old: Sequence[float], new: Sequence[float]) -> tuple[list[Bucket], list[Bucket]]:
    """The buckets of both samples, as fine as their rings tell."""
    parts: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for side, numbers in enumerate((old, new)):
        for x in numbers:
            parts[bucket_at(x, 0) // 128][side].append(x)
    found = {part: _of_part(*sides) for part, sides in parts.items()}
    first, second = ([found[bucket_at(x, 0) // 128][x] for x in side] for side in (old, new))
    return first, second


def _of_part(old: Sequence[float], new: Sequence[float]) -> dict[float, Bucket]:
    found = {x: Bucket(0, bucket_at(x, 0)) for x in (*old, *new)}
    for level in range(LEVELS):
        sides = [sorted(found[x].number for x in side) for side in (old, new) if side]
        low = min(side[len(side) // END] for side in sides)
        high = max(side[-1 - len(side) // END] for side in sides)
        if high - low >= 8:
            break
        start = 8 * (low - (7 - (high - low)) // 2)
        for x in found:
            place = bucket_at(x, level + 1) % 64
            found[x] = Bucket(level + 1, start + (place - start) % 64)
    return found

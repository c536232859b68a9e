"""From an event's loose features to the arrays a model learns from.

Numbers go through a signed logarithm and are standardised with the training set's statistics;
strings and booleans, the segment included, become hashed ``name=value`` buckets. A name the
schema does not know, a value of an unexpected type or a missing one never fails: it is left out.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Scalar = float | int | str | bool | None
Id = Literal["item_id", "user_id"]

MAX_NUMERICS = 256
CLIP = 8.0  # standard deviations
STEPS_PER_DEVIATION = 2


@dataclass(frozen=True, slots=True)
class Example:
    """What a model may know of one event: its text ("" for none), segment, features and ids."""

    text: str = ""
    segment: str | None = None
    features: Mapping[str, Scalar] = field(default_factory=dict)
    item_id: str | None = None
    user_id: str | None = None

    def given(self, names: Iterable[str] | None, ids: Iterable[Id] = ()) -> Example:
        """The same with no other features than these (None: all), and with ids as features.

        A feature that is called like an id takes its place.
        """
        own = ((one, getattr(self, one)) for one in ids)
        known: dict[str, Scalar] = {one: value for one, value in own if value is not None}
        wanted = self.features if names is None else {*names, *ids}
        known |= {name: self.features[name] for name in wanted if name in self.features}
        return replace(self, features=known)


def bucket(name: str, value: str | bool, buckets: int) -> int:
    """The same bucket for the same name and value, on every machine and in every process."""
    return zlib.crc32(f"{name}\x1f{value}".encode()) % buckets


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _signed_log(value: float) -> float:
    try:
        value = float(value)
    except OverflowError:
        return 0.0
    return math.copysign(math.log1p(abs(value)), value) if math.isfinite(value) else 0.0


@dataclass(frozen=True, slots=True)
class Schema:
    """Which features are read, and the training set's mean and deviation of each number.

    ``numerics``, ``mean`` and ``scale`` are parallel; mean and scale are of the signed logarithm.
    """

    has_text: bool
    numerics: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, examples: Sequence[Example]) -> Schema:
        """Learn names and statistics from the training set."""
        values: defaultdict[str, list[float]] = defaultdict(list)
        for example in examples:
            for name, value in example.features.items():
                if _is_number(value):
                    values[name].append(_signed_log(value))  # type: ignore[arg-type]
        common = sorted(values, key=lambda name: (-len(values[name]), name))
        names = sorted(common[:MAX_NUMERICS])
        deviations = (float(np.std(values[name])) for name in names)
        return cls(
            has_text=any(example.text.strip() for example in examples),
            numerics=tuple(names),
            mean=tuple(float(np.mean(values[name])) for name in names),
            scale=tuple(deviation if deviation > 1e-6 else 1.0 for deviation in deviations),
        )

    def fits(self, examples: Sequence[Example]) -> bool:
        """Whether a model with this schema would see all that these examples carry."""
        now = Schema.fit(examples)
        return now.has_text <= self.has_text and set(now.numerics) <= set(self.numerics)

    def numbers(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Shape (n, 2 × numerics): standardised values, then 1.0 where one was missing."""
        out = np.zeros((len(examples), 2, len(self.numerics)), dtype=np.float32)
        for row, example in enumerate(examples):
            for column, name in enumerate(self.numerics):
                value = example.features.get(name)
                if _is_number(value):
                    out[row, 0, column] = (
                        _signed_log(value) - self.mean[column]  # type: ignore[arg-type]
                    ) / self.scale[column]
                else:
                    out[row, 1, column] = 1.0
        return np.clip(out, -CLIP, CLIP).reshape(len(examples), -1)

    def names(self, example: Example, buckets: int) -> list[int]:
        """The buckets of the segment and of every string or boolean feature."""
        found = [
            bucket(name, value, buckets)
            for name, value in example.features.items()
            if isinstance(value, str | bool)
        ]
        if example.segment is not None:
            found.append(bucket("", example.segment, buckets))
        return found

    def steps(self, numbers: NDArray[np.float32], buckets: int) -> list[list[int]]:
        """For each row of `numbers` the buckets of "this number is about so large, or missing"."""
        values, missing = np.split(numbers, 2, axis=1)
        rounded = np.rint(values * STEPS_PER_DEVIATION).astype(int)
        return [
            [
                bucket(f"{name}\x1f", "missing" if gone else str(step), buckets)
                for name, step, gone in zip(self.numerics, row, gone_row, strict=True)
            ]
            for row, gone_row in zip(rounded.tolist(), missing.tolist(), strict=True)
        ]

    def slopes(self, buckets: int) -> list[int]:
        """For each number the bucket whose weight it is multiplied by."""
        return [bucket(f"{name}\x1f", "slope", buckets) for name in self.numerics]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Schema:
        return cls(
            has_text=bool(data["has_text"]),
            numerics=tuple(data["numerics"]),
            mean=tuple(data["mean"]),
            scale=tuple(data["scale"]),
        )

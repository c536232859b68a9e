"""A recipe whose versions compute nothing: what is left of a request is what serving costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.model.inputs import Example
from headrace.model.recipe import Predictor, Progress, Task, TrainingSet

TASKS: tuple[Task, ...] = ("classification",)
NEEDS: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """There is nothing to set."""


@dataclass
class Constant:
    """Gives all examples the same probabilities."""

    labels: tuple[str, ...] = ("partial", "total")
    features: tuple[str, ...] = ()

    def predict(self, examples: Sequence[Example]) -> NDArray[Any]:
        """Return probabilities, (n, labels)."""
        return np.tile([0.25, 0.75], (len(examples), 1))


def fit(
    _dataset: TrainingSet, _parent: Path | None, _config: Config, _progress: Progress, _folder: Path
) -> Mapping[str, Any]:
    """Learn nothing."""
    return {}


def load(_folder: Path) -> Predictor:
    """Return the constant."""
    return Constant()

"""When the deep part has learned enough: by examples that it does not learn from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from headrace.model.network import Head, HeadInputs
from headrace.model.objectives import Objective

LOOKS = 30  # in a training
PATIENCE = 10  # looks without a gain


def set_apart(labels: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Rows to learn from and rows to stop by, with labels in the same proportions."""
    mixed = np.random.default_rng(seed).permutation(len(labels))
    alike = sorted(mixed.tolist(), key=lambda row: labels[row])
    every = max(2, round(1 / share)) if share else len(labels) + 1
    return (
        sorted(row for at, row in enumerate(alike) if (at + 1) % every),
        sorted(alike[every - 1 :: every]),
    )


class Best:
    """The deep part as it was when it gained most over the wide part alone, less what is chance.

    That is the mean gain in loss on the examples to stop by, less its standard error, so that a
    few lucky ones do not let it add noise.
    """

    def __init__(
        self,
        head: Head,
        inputs: HeadInputs,
        objective: Objective,
        target: Tensor,
        weight: Tensor,
        offset: Tensor,
    ) -> None:
        self._head, self._inputs, self._objective = head, inputs, objective
        self._target, self._weight, self._offset = target, weight, offset
        self._alone = objective.losses(offset, target)
        self._gain, self._looks_since = 0.0, 0
        self._state = self._deep()

    @torch.no_grad()
    def is_over(self) -> bool:
        """Look how good the head is now; whether it has not been better for PATIENCE looks."""
        outputs = self._head.deep(self._inputs) + self._offset
        better = self._weight * (self._alone - self._objective.losses(outputs, self._target))
        chance = better.std() / math.sqrt(len(better)) if len(better) > 1 else 0.0
        gain = float(better.mean() - chance)
        self._looks_since += 1
        if gain > self._gain or not len(better):
            self._gain, self._looks_since = gain, 0
            self._state = self._deep()
        return self._looks_since >= PATIENCE

    def restore(self) -> None:
        """Give the head its best state back."""
        self._head.load_state_dict(self._state, strict=False)

    def _deep(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._head.adapted().items()}

"""What a network's outputs mean: how far they are from the truth, and what they answer.

The wide and the deep part are fitted by the same losses, and a loaded version answers by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from headrace.model.recipe import Task, TrainingExample

HUBER = 3.0  # standard deviations: what is further off counts by its distance, not its square
FURTHEST = 100.0
USUAL = (0.02, 0.98)  # quantiles between which targets say how much they vary


class Objective(Protocol):
    """Attributes:
    labels: the classes; none but for a classification.
    outputs: how many numbers the network gives for an example.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def outputs(self) -> int: ...

    def targets(self, examples: Sequence[TrainingExample]) -> Tensor:
        """What is to be learned of each example, (n, …)."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each example, (n,), from outputs (n, outputs)."""

    def answers(self, outputs: Tensor) -> Tensor:
        """What `Predictor.predict` returns, from outputs (n, outputs)."""

    def to_dict(self) -> dict[str, Any]:
        """What `objective_of` reads."""


@dataclass(frozen=True, slots=True)
class Classes:
    """One logit for each class, by cross entropy; answers are probabilities, (n, labels)."""

    labels: tuple[str, ...]

    @property
    def outputs(self) -> int:
        return len(self.labels)

    def targets(self, examples: Sequence[TrainingExample]) -> Tensor:
        return torch.tensor([self.labels.index(one.label) for one in examples])

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def answers(self, outputs: Tensor) -> Tensor:
        return F.softmax(outputs.float(), dim=1)

    def to_dict(self) -> dict[str, Any]:
        return {"labels": self.labels}


@dataclass(frozen=True, slots=True)
class Numbers:
    """A number, standardised by `mean` and `scale`; answers are numbers, (n,).

    The loss is Huber's (1964, "Robust estimation of a location parameter"): squared for usual
    errors, so that the expected value is learned, and linear for those of outliers.
    """

    mean: float
    scale: float

    @classmethod
    def of(cls, examples: Sequence[TrainingExample]) -> Numbers:
        """The scale of these targets, whatever a few of them are."""
        numbers = np.array([float(one.label) for one in examples])
        usual = np.clip(numbers, *np.quantile(numbers, USUAL))
        for values in (usual, numbers):
            unit = float(np.abs(values).max())  # so that no square is infinite
            if unit and (deviation := float((values / unit).std())) > 1e-9:
                return cls(float((values / unit).mean()) * unit, deviation * unit)
        return cls(float(usual[0]), 1.0)

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    @property
    def outputs(self) -> int:
        return 1

    def targets(self, examples: Sequence[TrainingExample]) -> Tensor:
        numbers = np.array([float(one.label) for one in examples])
        standard = np.clip((numbers - self.mean) / self.scale, -FURTHEST, FURTHEST)
        return torch.from_numpy(standard.astype(np.float32))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.huber_loss(outputs[:, 0], targets.to(outputs.dtype), reduction="none", delta=HUBER)

    def answers(self, outputs: Tensor) -> Tensor:
        return outputs[:, 0].double() * self.scale + self.mean

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Clicks:
    """The logit of a click on an item that is looked at; answers are its probability, (n,).

    By the position-based model an item is clicked if it is looked at, with the probability in
    `TrainingExample.propensity`, and is wanted; the loss is that of what was seen of it.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    @property
    def outputs(self) -> int:
        return 1

    def targets(self, examples: Sequence[TrainingExample]) -> Tensor:
        return torch.tensor([[float(one.label), one.propensity or 1.0] for one in examples])

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        logits, clicked, seen = outputs[:, 0], targets[:, 0], targets[:, 1]
        not_clicked = torch.log1p(-seen * torch.sigmoid(logits).clamp(max=1 - 1e-6))
        return -clicked * F.logsigmoid(logits) - (1 - clicked) * not_clicked

    def answers(self, outputs: Tensor) -> Tensor:
        return torch.sigmoid(outputs[:, 0].float())

    def to_dict(self) -> dict[str, Any]:
        return {}


def objective_of(task: Task, described: Mapping[str, Any]) -> Objective:
    """The objective that an artifact was trained for."""
    if task == "classification":
        return Classes(tuple(described["labels"]))
    return Numbers(described["mean"], described["scale"]) if task == "regression" else Clicks()


def first_objective(task: Task, examples: Sequence[TrainingExample]) -> Objective:
    """The objective of a model that starts with these examples.

    Raises:
        ValueError: a classification of fewer than two labels.
    """
    if task == "regression":
        return Numbers.of(examples)
    if task == "ranking":
        return Clicks()
    labels = sorted({one.label for one in examples})
    if len(labels) < 2:
        raise ValueError(f"a fine-tune needs examples of two labels or more, got {labels}")
    return Classes(tuple(labels))

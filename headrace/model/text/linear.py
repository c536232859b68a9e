"""Logistic regression as two arrays, which are saved as they are and can start a network's head."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FLOOR = 1e-7  # of a probability


@dataclass(frozen=True, slots=True)
class Linear:
    """A softmax over ``inputs @ weight.T + bias``; weight (classes, dim), bias (classes,)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logs(self, inputs: Any) -> Floats:
        """Return log probabilities (n, classes) of inputs (n, dim), which may be sparse."""
        found = log_softmax(np.asarray(inputs @ self.weight.T + self.bias, np.float64), axis=1)
        logs: Floats = np.maximum(found, np.log(FLOOR))
        return logs

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"weight": self.weight, "bias": self.bias}


def logistic(
    inputs: Any, target: Integers, sample_weight: Floats, classes: int, strength: float
) -> Linear:
    """Fit by scikit-learn; `strength` is the inverse of the L2 penalty.

    A class without a row gets a probability near FLOOR.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    seen = np.unique(target)
    weight = np.zeros((classes, inputs.shape[1]), np.float32)
    bias = np.full(classes, np.log(FLOOR), np.float32)
    if len(seen) == 1:
        bias[seen] = 0
        return Linear(weight, bias)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what 150 steps reach is near enough
        model = LogisticRegression(C=strength, max_iter=150)
        model.fit(inputs, target, sample_weight)
    found, free = model.coef_, model.intercept_
    if len(seen) == 2:
        found, free = np.concatenate([-found, found]) / 2, np.concatenate([-free, free]) / 2
    weight[seen], bias[seen] = found, free
    return Linear(weight, bias)


@dataclass(frozen=True, slots=True)
class Standard:
    """A classifier of states (n, dim) that are standardised first: mean 0 and deviation 1."""

    center: NDArray[np.float32]
    scale: NDArray[np.float32]
    linear: Linear

    @classmethod
    def fit(
        cls,
        states: NDArray[np.float32],
        target: Integers,
        sample_weight: Floats,
        classes: int,
        strength: float,
    ) -> Standard:
        center, deviation = states.mean(0), states.std(0)
        scale = np.where(deviation > 1e-4, deviation, 1).astype(np.float32)
        inputs = (states - center) / scale
        return cls(center, scale, logistic(inputs, target, sample_weight, classes, strength))

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[np.float32]]) -> Standard:
        linear = Linear(tensors["weight"], tensors["bias"])
        return cls(tensors["center"], tensors["scale"], linear)

    def standardised(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        return (states - self.center) / self.scale

    def logs(self, states: NDArray[np.float32]) -> Floats:
        """Return log probabilities, (n, classes)."""
        return self.linear.logs(self.standardised(states))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        return {"center": self.center, "scale": self.scale, **self.linear.tensors()}

"""Classifiers weighed against each other, and what one of them gains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from headrace.model.text.linear import Floats, Integers

Flags = NDArray[np.bool_]
MOST = 3.0  # of a weight
LEAST_ROWS = 20  # to say what a part gains


def fit_weights(parts: Sequence[Floats], target: Integers, sample_weight: Floats) -> Floats:
    """Return one weight for each part, of the least log loss of the summed log probabilities.

    A part is log probabilities (n, classes). This is a log-linear pool (Genest and Zidek 1986,
    "Combining probability distributions"); with one part it is temperature scaling (Guo et al.
    2017, "On calibration of modern neural networks").
    """
    start = np.full(len(parts), 1 / len(parts))
    if not len(target):
        return start
    logs, rows = np.stack(parts), np.arange(len(target))
    share = sample_weight / sample_weight.sum()

    def loss(weights: Floats) -> tuple[float, Floats]:
        pooled = log_softmax(np.tensordot(weights, logs, 1), axis=1)
        gradient = (np.exp(pooled) * logs).sum(2) - logs[:, rows, target]
        return float(-(share * pooled[rows, target]).sum()), gradient @ share

    found = minimize(loss, start, jac=True, bounds=[(0, MOST)] * len(parts))
    return np.asarray(found.x)


def pooled(weights: Floats, parts: Sequence[Floats]) -> Floats:
    """Return the log probabilities (n, classes) of the parts together."""
    return np.asarray(log_softmax(np.tensordot(weights, np.stack(parts), 1), axis=1))


def paired_gain(
    without: Sequence[Floats], whole: Sequence[Floats], target: Integers, sample_weight: Floats
) -> tuple[float, float] | None:
    """Return how much lower the log loss of `whole` is, in nats, and half of its 95 % interval.

    Each half of the rows is scored with the weights that the other half chose. None where there
    are too few rows.
    """
    if len(target) < LEAST_ROWS:
        return None
    halves = [np.arange(len(target)) % 2 == side for side in (0, 1)]
    gain = np.empty(len(target))
    for half, other in (halves, halves[::-1]):
        losses = [_losses(parts, target, sample_weight, half, other) for parts in (without, whole)]
        gain[half] = losses[0] - losses[1]
    gain *= sample_weight / sample_weight.mean()
    return float(gain.mean()), float(1.96 * gain.std(ddof=1) / math.sqrt(len(gain)))


def _losses(
    parts: Sequence[Floats], target: Integers, sample_weight: Floats, half: Flags, other: Flags
) -> Floats:
    """The log loss of each row in `half`, with the weights of the `other`."""
    weights = fit_weights([part[other] for part in parts], target[other], sample_weight[other])
    logs = pooled(weights, [part[half] for part in parts])
    return np.asarray(-logs[np.arange(len(logs)), target[half]])

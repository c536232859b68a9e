"""The wide part of a model: a regularised logistic regression over hashed words and names.

It is convex and sparse, so LBFGS comes near the optimum of thousands of examples within a second.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headrace.model.network import wide_logits

ITERATIONS = 25


def fit_wide(
    hashes: Tensor,
    share: Tensor,
    target: Tensor,
    sample_weight: Tensor,
    classes: int,
    strength: float,
    buckets: int,
) -> Tensor:
    """Weights (buckets + 1, classes), the bias in the last row.

    `hashes` and `share` are the `wide` and `share` of `HeadInputs`. The objective is the
    sum of the weighted cross entropies plus ``|w|² / (2 · strength)``.
    """
    known = hashes >= 0
    used, columns = np.unique(hashes[known].numpy(), return_inverse=True)
    rows = known.nonzero()[:, 0].numpy()
    values = share[known].double().numpy()
    wanted = np.eye(classes)[target.numpy()]
    each = sample_weight.double().numpy()[:, None]
    free = classes - 1  # the columns of weights and gradients sum to zero: the last is implied

    def objective(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The mean loss and its gradient, both for the free columns."""
        logits = np.empty((len(hashes), classes))
        for label in range(free):
            terms = weights[columns, label] * values
            logits[:, label] = weights[-1, label] + np.bincount(rows, terms, len(hashes))
        logits[:, -1] = -logits[:, :-1].sum(1)
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        residual = (np.exp(log_p) - wanted) * each
        gradient = np.empty((len(used) + 1, classes))
        for label in range(free):
            terms = residual[rows, label] * values
            gradient[:-1, label] = np.bincount(columns, terms, len(used))
        gradient[-1] = residual.sum(0)
        gradient[:-1, -1] = -gradient[:-1, :-1].sum(1)
        full = np.concatenate([weights, -weights.sum(1, keepdims=True)], axis=1)
        full[-1] = 0.0  # the bias is not penalised
        loss = -(each * wanted * log_p).sum() + (full**2).sum() / (2 * strength)
        gradient += full / strength
        return loss / each.sum(), (gradient[:, :-1] - gradient[:, -1:]) / each.sum()

    weights = torch.zeros(len(used) + 1, free, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> float:
        loss, gradient = objective(weights.detach().numpy())
        weights.grad = torch.from_numpy(gradient)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = torch.cat([weights, -weights.sum(1, keepdim=True)], dim=1).detach().float()
    out = torch.zeros(buckets + 1, classes)
    out[torch.from_numpy(used)] = found[:-1]
    out[-1] = found[-1]
    return out


def held_out_logits(
    hashes: Tensor,
    share: Tensor,
    target: Tensor,
    sample_weight: Tensor,
    classes: int,
    strength: float,
    buckets: int,
    folds: int,
    seed: int,
) -> Tensor:
    """Each example's logits, (n, classes), from weights fitted without it."""
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(len(target)) % folds)
    out = torch.zeros(len(target), classes)
    for number in range(folds):
        inside = fold != number
        weights = fit_wide(
            hashes[inside],
            share[inside],
            target[inside],
            sample_weight[inside],
            classes,
            strength,
            buckets,
        )
        out[~inside] = wide_logits(weights, hashes[~inside], share[~inside])
    return out

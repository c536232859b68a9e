"""The wide part of a model: a regularised linear model over hashed words and names.

It is convex and sparse, so LBFGS comes near the optimum of thousands of examples within a second.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from headrace.model.network import wide_logits
from headrace.model.objectives import Objective

ITERATIONS = 25


def fit_wide(
    hashes: Tensor,
    share: Tensor,
    target: Tensor,
    sample_weight: Tensor,
    objective: Objective,
    strength: float,
    buckets: int,
) -> Tensor:
    """Weights (buckets + 1, outputs), the bias in the last row.

    `hashes` and `share` are the `wide` and `share` of `HeadInputs`. The sum of the weighted losses
    plus ``|w|² / (2 · strength)`` is minimised.
    """
    known = hashes >= 0
    used, columns = np.unique(hashes[known].numpy(), return_inverse=True)
    values = share[known].double().numpy()
    starts = np.concatenate([[0], np.cumsum(known.sum(1).numpy())])
    inputs = csr_array((values, columns, starts), (len(hashes), len(used)))
    turned = inputs.T.tocsr()
    each = sample_weight.double()
    total = float(each.sum())

    def loss_of(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The mean loss and its gradient; the bias is not penalised."""
        outputs = torch.from_numpy(inputs @ weights[:-1] + weights[-1]).requires_grad_()
        loss = (objective.losses(outputs, target) * each).sum()
        (slope,) = torch.autograd.grad(loss, outputs)
        gradient = np.concatenate([turned @ slope.numpy(), slope.numpy().sum(0, keepdims=True)])
        gradient[:-1] += weights[:-1] / strength
        penalty = float((weights[:-1] ** 2).sum()) / (2 * strength)
        return (loss.item() + penalty) / total, gradient / total

    weights = torch.zeros(len(used) + 1, objective.outputs, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> float:
        loss, gradient = loss_of(weights.detach().numpy())
        weights.grad = torch.from_numpy(gradient)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    out = torch.zeros(buckets + 1, objective.outputs)
    out[torch.from_numpy(used)] = weights.detach()[:-1].float()
    out[-1] = weights.detach()[-1].float()
    return out


def held_out_logits(
    hashes: Tensor,
    share: Tensor,
    target: Tensor,
    sample_weight: Tensor,
    objective: Objective,
    strength: float,
    buckets: int,
    folds: int,
    seed: int,
) -> Tensor:
    """Each example's logits, (n, outputs), from weights fitted without it."""
    fold = torch.from_numpy(np.random.default_rng(seed).permutation(len(target)) % folds)
    out = torch.zeros(len(target), objective.outputs)
    for number in range(folds):
        inside = fold != number
        if not inside.any():
            continue  # a single example: nothing is known without it
        weights = fit_wide(
            hashes[inside],
            share[inside],
            target[inside],
            sample_weight[inside],
            objective,
            strength,
            buckets,
        )
        out[~inside] = wide_logits(weights, hashes[~inside], share[~inside])
    return out

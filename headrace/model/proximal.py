"""A proximal step: weights learn a few examples and stay near where they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

NEARNESS = 0.01  # what a weight pays for the square of its move


def proximal_step(
    before: Sequence[Tensor],
    logits: Callable[[Sequence[Tensor]], Tensor],
    target: Tensor,
    weight: Tensor,
    *,
    rate: float,
    steps: int,
) -> tuple[list[Tensor], float]:
    """Return the weights after `steps` of Adam, and the weighted mean cross entropy of the last.

    It minimises that loss over the n examples, plus NEARNESS / n times the squared distance to
    `before`. `logits` gives those of the examples, (n, classes), under some weights; `target` and
    `weight` are (n,).
    """
    now = [one.detach().clone().requires_grad_() for one in before]
    optimizer = torch.optim.Adam(now, lr=rate)
    share = weight / weight.sum()
    said = 0.0
    for _ in range(steps):
        loss = (F.cross_entropy(logits(now).float(), target, reduction="none") * share).sum()
        said = loss.item()
        moved = torch.stack([((a - b) ** 2).sum() for a, b in zip(now, before, strict=True)]).sum()
        optimizer.zero_grad()
        (loss + NEARNESS * moved / len(target)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return [one.detach() for one in now], said

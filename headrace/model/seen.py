"""Where the examples of a column lay, so that of several columns the right one answers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

NARROWEST = 0.1  # deviation of a number, in those of the first column's
NEWEST = 0.95  # the chance of the newest column where nothing speaks for another


class Seen(nn.Module):
    """How likely an example is among those that were learned, by naive Bayes.

    Numbers are normal, and names are drawn as often as they occurred. Before it has learned, it is
    that of examples whose numbers were standardised.
    """

    mean: Tensor
    deviation: Tensor
    frequency: Tensor

    def __init__(self, numerics: int, buckets: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(numerics))
        self.register_buffer("deviation", torch.ones(numerics))
        self.register_buffer("frequency", torch.full((buckets,), -math.log(buckets)))

    def learn(self, numbers: Tensor, names: Tensor) -> None:
        """Learn examples: their `numbers` and `names` are as in `HeadInputs`."""
        values, missing = numbers.chunk(2, dim=1)
        count = (1 - missing).sum(0).clamp_min(1)
        self.mean = (values * (1 - missing)).sum(0) / count
        variance = ((values - self.mean) ** 2 * (1 - missing)).sum(0) / count
        known = missing.min(0).values < 1
        self.deviation = torch.where(known, variance.sqrt().clamp_min(NARROWEST), 1.0)
        counts = torch.bincount(names[names >= 0], minlength=len(self.frequency)) + 1.0
        self.frequency = (counts / counts.sum()).log()

    def forward(self, numbers: Tensor, names: Tensor) -> Tensor:
        """The log likelihood of each example, (n,), up to what is the same for all columns."""
        values, missing = numbers.chunk(2, dim=1)
        likely = -(((values - self.mean) / self.deviation) ** 2) / 2 - self.deviation.log()
        often = self.frequency[names.clamp_min(0)] * (names >= 0)
        return (likely * (1 - missing)).sum(1) + often.sum(1)


def chances(likelihoods: Sequence[Tensor]) -> Tensor:
    """The chance that an example is of each column, (columns, n), the newest one first."""
    others = len(likelihoods) - 1
    before = [NEWEST if others else 1.0, *[(1 - NEWEST) / max(others, 1)] * others]
    logs = [one + math.log(chance) for one, chance in zip(likelihoods, before, strict=True)]
    return torch.stack(logs).softmax(0)

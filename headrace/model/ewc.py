"""Elastic weight consolidation: a weight stays where it was as far as older examples need it.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", PNAS 114(13). Over
many versions the importance of a weight is summed and fades, so that one set of it is enough
(Schwarz et al. 2018, "Progress & Compress", the online form).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

Named = Mapping[str, Tensor]

FADES = 0.9  # what is left of a parent's importance in its child


def fisher(losses: Iterable[Tensor], parameters: Named, examples: int) -> dict[str, Tensor]:
    """Return the diagonal of the Fisher information of `examples`, of each parameter's shape.

    `losses` are the negative log likelihoods, in nats, of some of them, one each, of a label drawn
    from the model itself: the labels that were observed would give another matrix (Kunstner et al.
    2019, "Limitations of the empirical Fisher approximation").
    """
    found = {name: torch.zeros_like(value) for name, value in parameters.items()}
    count = 0
    for loss in losses:
        gradients = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True)
        for name, gradient in zip(found, gradients, strict=True):
            if gradient is not None:
                found[name] += gradient.detach() ** 2
        count += 1
    return {name: total * (examples / max(count, 1)) for name, total in found.items()}


def summed(importance: Named, before: Named) -> dict[str, Tensor]:
    """Return the importance of a version, with what is left of its parent's."""
    return {
        name: value + FADES * before[name] if name in before else value
        for name, value in importance.items()
    }


class Anchor:
    """Where weights are held, and how strongly.

    Args:
        parameters: what is trained, as it is now.
        importance: of each weight, of the same shapes.
        strength: what the penalty is multiplied with.
    """

    def __init__(self, parameters: Named, importance: Named, strength: float) -> None:
        self.parameters, self.importance, self.strength = parameters, importance, strength
        self._place = {name: value.detach().clone() for name, value in parameters.items()}

    def penalty(self) -> Tensor:
        """Return strength / 2 × the sum of importance × (value - place)², in nats."""
        terms = [
            (self.importance[name] * (value - self._place[name]) ** 2).sum()
            for name, value in self.parameters.items()
        ]
        return self.strength * torch.stack(terms).sum() / 2

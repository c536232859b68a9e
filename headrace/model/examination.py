"""How likely an item is looked at where it is shown: what clicks on it are to be divided by.

By the position-based model an item is clicked if it is looked at and wanted (Joachims, Swaminathan
and Schnabel 2017, "Unbiased Learning-to-Rank with Biased Feedback").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headrace.model.inputs import Example

CLIP = 10.0  # the largest inverse propensity that is used, where nothing else is said
ALONE = 20  # positions from here on are looked at alike
STRENGTH = 3.0  # inverse of the penalty on what is wanted
ITERATIONS = 100


class Shown(Protocol):
    """An item that was shown; its label is a number, above 0 for a click."""

    @property
    def example(self) -> Example: ...
    @property
    def label(self) -> str: ...
    @property
    def position(self) -> int | None: ...
    @property
    def propensity(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Examination:
    """The probability of a look at each position.

    Attributes:
        source: "logged", "estimated", or "none" where no positions differ.
        by_position: up to ALONE.
    """

    source: str
    by_position: Mapping[int, float]

    @classmethod
    def of(cls, shown: Sequence[Shown]) -> Examination:
        """What these items tell.

        A logged propensity is a probability of a look where it is the same for all items of a
        position, and not for all positions; else it is that of the choice (`choice_weights`) and
        examination is estimated.
        """
        at = [_place(one) for one in shown]
        if len(set(at) - {None}) < 2:
            return UNKNOWN
        if (logged := _logged(shown)) is not None:
            return cls("logged", logged)
        return cls("estimated", _estimated(shown, at))

    def looked_at(self, shown: Sequence[Shown], clip: float) -> list[float]:
        """How likely each item was looked at, at least 1 / `clip`."""
        return [max(self._look(one), 1 / clip) for one in shown]

    def _look(self, one: Shown) -> float:
        if self.source == "logged" and one.propensity is not None:
            return one.propensity
        place = _place(one)
        if place is None or not self.by_position:
            return 1.0
        return self.by_position[min(self.by_position, key=lambda other: abs(other - place))]


UNKNOWN = Examination("none", {})


def choice_weights(shown: Sequence[Shown], examination: Examination, clip: float) -> list[float]:
    """What each item counts: 1 / the logged probability of its choice, at most `clip`.

    All count 1 where some have none, or where it is the probability of a look. Their users divide
    by the sum of the weights (Swaminathan and Joachims 2015, "The Self-Normalized Estimator for
    Counterfactual Learning").
    """
    chosen = [one.propensity for one in shown if one.propensity is not None]
    if examination.source == "logged" or len(chosen) < len(shown):
        return [1.0] * len(shown)
    return [min(1 / propensity, clip) for propensity in chosen]


def is_click(one: Shown) -> bool:
    """Whether the item was clicked."""
    return float(one.label) > 0


def _place(one: Shown) -> int | None:
    return None if one.position is None else min(one.position, ALONE)


def _logged(shown: Sequence[Shown]) -> dict[int, float] | None:
    """The propensity of each position, if it depends on nothing else."""
    found: dict[int, float] = {}
    for one in shown:
        if one.position is None or one.propensity is None:
            return None
        if abs(found.setdefault(one.position, one.propensity) - one.propensity) > 1e-9:
            return None
    return found if len(set(found.values())) > 1 else None


def _estimated(shown: Sequence[Shown], at: Sequence[int | None]) -> dict[int, float]:
    """Looks by position, relative to the first one, and wants by features, of greatest likelihood.

    It is the likelihood of Wang, Golbandi, Bendersky, Metzler and Najork 2018, "Position Bias
    Estimation for Unbiased Learning to Rank in Personal Search", whose EM needs more passes.
    """
    import torch
    from torch.nn import functional as F

    from headrace.model.inputs import Schema
    from headrace.model.network import HeadInputs

    examples = [Example("", one.example.segment, one.example.features) for one in shown]
    inputs = HeadInputs.of(Schema.fit(examples), examples, torch.device("cpu"))
    used, columns = torch.unique(inputs.wide.clamp_min(0), return_inverse=True)
    places = sorted({place for place in at if place is not None})
    rank = {place: number for number, place in enumerate(places)}
    where = torch.tensor([0 if place is None else rank[place] for place in at])
    clicked = torch.tensor([is_click(one) for one in shown], dtype=torch.float32)
    wanted = torch.zeros(len(used) + 1, requires_grad=True)
    looked = torch.zeros(len(places) - 1, requires_grad=True)

    def loss() -> torch.Tensor:
        logits = (wanted[:-1][columns] * inputs.share).sum(1) + wanted[-1]
        looks = F.pad(F.logsigmoid(looked), (1, 0))[where]
        sure = looks + F.logsigmoid(logits)
        other = torch.log(-torch.expm1(sure.clamp(max=-1e-6)))
        fit = -(clicked * sure + (1 - clicked) * other).sum()
        return (fit + (wanted[:-1] ** 2).sum() / (2 * STRENGTH)) / len(shown)

    optimizer = torch.optim.LBFGS(
        [wanted, looked], max_iter=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = torch.cat([torch.ones(1), torch.sigmoid(looked.detach())])
    return dict(zip(places, found.tolist(), strict=True))

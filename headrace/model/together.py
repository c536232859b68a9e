"""Versions asked at once: what several of them want of one network is computed in one pass.

A predictor whose costly part is a network that others use, too, has a method `answering` beside
`predict`. It is a generator: it yields what it wants of the network, is sent that, and returns its
answers. So whoever asks several versions need not know what they are made of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.model.inputs import Example
from headrace.model.recipe import Predictor


@dataclass(frozen=True, slots=True)
class Answers:
    """What a version says of n examples.

    Attributes:
        rows: as `Predictor.predict` returns them, (n, ...).
        passes: a classifier's probabilities from passes with dropout, (number, n, labels); None
            where none were asked for, or it was not trained with dropout.
    """

    rows: NDArray[Any]
    passes: NDArray[np.float64] | None = None


class Wanted(Protocol):
    """Rows that a version wants of a network."""

    @property
    def network(self) -> object:
        """The network; what is wanted of the same one can be computed together."""

    def computed(self, others: Sequence[Any]) -> list[NDArray[Any]]:
        """Compute what this one and others of its kind and network want: an array for each."""


Answering = Generator[Wanted, NDArray[Any], Answers]


def shares(version: Predictor) -> bool:
    """Whether a version has a costly part that it may share with others."""
    return hasattr(version, "answering")


def answering(version: Predictor, examples: Sequence[Example], passes: int = 0) -> Answering:
    """Have a version answer, and give so many `passes` with dropout if it can.

    One without a method `answering` wants nothing of others.
    """
    own = getattr(version, "answering", None)
    return own(examples, passes) if own else _by_itself(version, examples)


def alone(asked: Answering) -> Answers:
    """Return the answers of one version; raises what it raises."""
    (found,) = together([asked])
    if isinstance(found, Exception):
        raise found
    return found


def together(asked: Sequence[Answering]) -> list[Answers | Exception]:
    """Return the answers of each version, or what it raised: no version fails by another.

    When a common pass fails, each version has one of its own.
    """
    found: dict[int, Answers | Exception] = {}
    waiting: dict[int, Wanted] = {}

    def proceed(place: int, sent: NDArray[Any] | None) -> None:
        try:
            # To send None is to start.
            waiting[place] = asked[place].send(sent)  # type: ignore[arg-type]
        except StopIteration as end:
            found[place] = end.value
        except Exception as error:
            found[place] = error

    for place in range(len(asked)):
        proceed(place, None)
    while waiting:
        wanted, waiting = waiting, {}
        for group in _of_one_network(wanted):
            for place, array in _computed(group).items():
                if isinstance(array, Exception):
                    found[place] = array
                else:
                    proceed(place, array)
    return [found[place] for place in range(len(asked))]


def _by_itself(version: Predictor, examples: Sequence[Example]) -> Answering:
    yield from ()
    return Answers(version.predict(examples))


def _of_one_network(wanted: dict[int, Wanted]) -> list[dict[int, Wanted]]:
    groups: dict[tuple[type, int], dict[int, Wanted]] = defaultdict(dict)
    for place, one in wanted.items():
        groups[type(one), id(one.network)][place] = one
    return list(groups.values())


def _computed(group: dict[int, Wanted]) -> dict[int, NDArray[Any] | Exception]:
    first, *others = group.values()
    try:
        return dict(zip(group, first.computed(others), strict=True))
    except Exception as error:
        if not others:
            return dict.fromkeys(group, error)
    alone: dict[int, NDArray[Any] | Exception] = {}
    for place, one in group.items():
        alone |= _computed({place: one})
    return alone

"""Exploration: which of several arms to choose, and with what probability.

An arm is an answer or an item. Every policy becomes probabilities of the arms, and the choice is
drawn from them: the propensity that is logged is the probability that was used. Draws are made from
the id of the request, so a request that is sent again gets the same arm, as long as nothing was
learned between.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Policy = Literal["off", "epsilon", "boltzmann", "ucb1", "thompson", "dropout"]

DRAWS = 500  # from the posteriors, for Thompson sampling
RECENT, LEAST_RECENT = 1_000, 100  # choices that the share of an arm is counted over


@dataclass(frozen=True, slots=True)
class Exploration:
    """How a model explores; the policies of the same names.

    Attributes:
        rate: share of choices that are drawn evenly from all arms, whatever the policy.
        temperature: of `boltzmann`; values that differ by it are chosen e times as often.
        half_life: labelled choices after which rate and temperature are half; 0: they stay.
        max_share: of an arm, among the latest choices.
    """

    how: Policy = "off"
    rate: float = 0.05
    temperature: float = 0.1
    half_life: float = 0.0
    max_share: float = 1.0

    def after(self, pulls: float) -> Exploration:
        """Return it as it is after so many labelled choices."""
        if not self.half_life:
            return self
        factor = 0.5 ** (pulls / self.half_life)
        return replace(self, rate=self.rate * factor, temperature=self.temperature * factor)


@dataclass(frozen=True, slots=True)
class Arms:
    """What is known of k arms: arrays of shape (k,). One that was never pulled has 0 pulls.

    `is_share` says whether all rewards are in [0, 1]; posteriors are Beta distributions then, else
    normal.
    """

    pulls: Floats
    mean: Floats
    variance: Floats
    is_share: bool = True


def evidence(
    exploration: Exploration, values: Floats, arms: Arms | None = None, seed: str = ""
) -> Floats:
    """Return rows (d, k) of what k arms may be worth; the more rows an arm is best in, the better.

    `epsilon` and `boltzmann` take `values`, the model's, (k,), or the mean of several passes with
    dropout, (d, k); `dropout` takes these passes (Gal and Ghahramani 2016). `ucb1` (Auer,
    Cesa-Bianchi and Fischer 2002) and `thompson` (Thompson 1933) take what is known of `arms`, or
    the values where nothing is.
    """
    passes = np.atleast_2d(np.asarray(values, float))
    if exploration.how == "dropout":
        return passes
    if exploration.how == "ucb1" and arms is not None:
        return _upper_bounds(arms)
    if exploration.how == "thompson" and arms is not None:
        return _posterior(arms, seed)
    return np.asarray(passes.mean(0, keepdims=True))


def probabilities(exploration: Exploration, worth: Floats) -> Floats:
    """Return the probability of each of k arms, (k,), by the `evidence` (d, k)."""
    if exploration.how == "boltzmann":
        scaled = worth.mean(0) / max(exploration.temperature, 1e-9)
        weights = np.exp(scaled - scaled.max())
        wanted = weights / weights.sum()
    else:
        is_best = worth == worth.max(1, keepdims=True)
        wanted = (is_best / is_best.sum(1, keepdims=True)).mean(0)
    return np.asarray((1 - exploration.rate) * wanted + exploration.rate / worth.shape[1])


def choose(wanted: Floats, seed: str) -> int:
    """Return one of k arms, drawn with the probabilities `wanted` (k,)."""
    place = _uniform("choose", seed) * float(wanted.sum())
    last = int(np.flatnonzero(wanted)[-1])
    return min(int(np.searchsorted(np.cumsum(wanted), place, side="right")), last)


def ranked(exploration: Exploration, worth: Floats, seed: str = "") -> list[tuple[int, float]]:
    """Return all arms in an order, each with its propensity, by the `evidence` (d, k).

    The arms are drawn one after the other from those that are left (Plackett 1975, for
    `boltzmann`); a propensity is the probability of the arm at its place, given those before it.
    """
    left = list(range(worth.shape[1]))
    order: list[tuple[int, float]] = []
    while left:
        wanted = probabilities(exploration, worth[:, left])
        place = choose(wanted, f"{seed}/{len(order)}")
        order.append((left.pop(place), float(wanted[place])))
    return order


class Shares:
    """How often each arm was among the latest choices."""

    def __init__(self) -> None:
        self._latest: deque[Hashable] = deque()
        self._counts: Counter[Hashable] = Counter()

    def note(self, arm: Hashable) -> None:
        """Count a choice."""
        self._latest.append(arm)
        self._counts[arm] += 1
        if len(self._latest) > RECENT:
            oldest = self._latest.popleft()
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]

    def allowed(self, arms: Sequence[Hashable], max_share: float) -> list[int]:
        """Return the places of those arms that were not chosen too often; of all if of none."""
        latest = len(self._latest)
        if max_share >= 1 or latest < LEAST_RECENT:
            return list(range(len(arms)))
        kept = [i for i, arm in enumerate(arms) if self._counts[arm] < max_share * latest]
        return kept or list(range(len(arms)))


def _upper_bounds(arms: Arms) -> Floats:
    """Mean plus sqrt(2 ln N / n), (1, k); an arm that was never pulled comes first."""
    total = max(float(arms.pulls.sum()), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bonus = np.sqrt(2 * math.log(total) / arms.pulls)
    return np.where(arms.pulls > 0, arms.mean + bonus, np.inf)[None, :]


def _posterior(arms: Arms, seed: str) -> Floats:
    """Draws of the mean reward of each arm, (draws, k)."""
    rng = np.random.default_rng(_number("thompson", seed))
    shape = (DRAWS, len(arms.pulls))
    if arms.is_share:
        won = np.clip(arms.mean * arms.pulls, 0, arms.pulls)
        return rng.beta(1 + won, 1 + arms.pulls - won, shape)
    # An arm of fewer than two pulls is as uncertain as all arms together.
    known = arms.pulls > 1
    spread = max(float(arms.variance[known].max(initial=0.0)), 1e-12)
    spread = max(spread, float(np.var(arms.mean[known])) if known.any() else 1.0)
    scale = np.sqrt(np.where(known, arms.variance, spread) / np.maximum(arms.pulls, 1))
    return rng.normal(arms.mean, scale, shape)


def _number(use: str, seed: str) -> int:
    digest = hashlib.blake2b(f"{use}\0{seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _uniform(use: str, seed: str) -> float:
    return (_number(use, seed) >> 11) / (1 << 53)

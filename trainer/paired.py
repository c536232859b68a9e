"""How much better one version is than another on the same examples, and what chance leaves of it.

Each metric is written as the mean of one part per example, so the parts of two versions can be
subtracted example by example: what both find hard cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]

FLOOR = 1e-7  # of a probability, so that one confident mistake is not infinite
ALPHA = 0.04  # how likely a version passes that is no better: 5 % with a margin for small samples
POWER = 0.8  # how likely a version passes that is better by WANTED_GAIN
WANTED_GAIN = 0.025


@dataclass(frozen=True, slots=True)
class Gain:
    """An improvement as a share of the rival's value; negative where worse.

    Attributes:
        n: examples that both versions were asked.
        value: the mean over them.
        spread: standard deviation of one example's part in it.
        skewness: of these parts.
    """

    n: int
    value: float
    spread: float
    skewness: float

    @classmethod
    def of(cls, better: Floats, rival: float) -> Gain | None:
        """The gain whose parts are `better`; None for fewer than two examples."""
        if len(better) < 2:
            return None
        parts = better / max(abs(rival), FLOOR)
        value, spread = float(parts.mean()), float(parts.std(ddof=1))
        # Parts that differ by rounding alone are equal.
        if spread <= 1e-12 * float(np.abs(parts).max()):
            return cls(len(parts), value, 0.0, 0.0)
        skewness = float((((parts - value) / spread) ** 3).mean())
        return cls(len(parts), value, spread, skewness)

    def at_least(self, alpha: float = ALPHA) -> float:
        """Lower end of its one-sided interval."""
        wanted = float(stdtrit(self.n - 1, 1 - alpha)) / math.sqrt(self.n)
        return self.value - self.spread * _skewed(wanted, self.skewness, self.n)

    def chance(self) -> float:
        """How likely a version that is as good looks as bad as this, or worse (a p-value)."""
        if not self.spread:
            return float(self.value >= 0)
        t = _symmetric(self.value / self.spread, self.skewness, self.n)
        return float(stdtr(self.n - 1, math.sqrt(self.n) * t))


# Hall 1992, "On the removal of skewness by transformation", JRSS B 54(1): with T the error of a
# mean in standard deviations, T + γT²/3 + γ²T³/27 + γ/6n is as good as symmetric.
def _symmetric(t: float, skewness: float, n: int) -> float:
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / (6 * n)


def _skewed(x: float, skewness: float, n: int) -> float:
    if abs(skewness) < 1e-6:
        return x
    return 3 / skewness * (math.cbrt(1 + skewness * (x - skewness / (6 * n))) - 1)


def examples_needed(spread: float, gain: float = WANTED_GAIN) -> int:
    """How many examples let a version pass that is better by `gain`, with the chance POWER.

    That is ((z_alpha + z_power) * spread / gain)².
    """
    normal = NormalDist()
    z = normal.inv_cdf(1 - ALPHA) + normal.inv_cdf(POWER)
    return math.ceil((z * spread / gain) ** 2)


def metric_parts(
    metric: str, p: Floats, truth: NDArray[np.intp], asked: Sequence[int]
) -> Floats | None:
    """Each example's part in a metric of `p`, (n, labels); None where it cannot be measured.

    `truth` are columns of `p`; AUC and F1 are means over the columns `asked`.
    """
    guess = p.argmax(1)
    by_label: list[Floats | None]
    if metric == "log_loss":
        by_label = [-np.log(np.maximum(p[np.arange(len(p)), truth], FLOOR))]
    elif metric == "brier":
        by_label = [((p - np.eye(p.shape[1])[truth]) ** 2).sum(1)]
    elif metric == "accuracy":
        by_label = [(guess == truth).astype(np.float64)]
    elif metric == "f1":
        by_label = [_f1_parts(guess == one, truth == one) for one in asked]
    else:
        by_label = [_auc_parts(p[:, one], truth == one) for one in asked]
    known = [parts for parts in by_label if parts is not None]
    return np.array(known).mean(0) if known else None


def middle_ranks(scores: Floats) -> Floats:
    """Rank of each score from 1 on, ties sharing their mean."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _auc_parts(scores: Floats, positive: Flags) -> Floats | None:
    """Parts whose mean is the AUC, and whose differences have DeLong's variance.

    DeLong, DeLong & Clarke-Pearson 1988, by the ranks of Sun & Xu 2014. It takes two examples of
    either class.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if min(positives, negatives) < 2:
        return None
    ranks = middle_ranks(scores)
    placed = np.empty(len(scores))
    placed[positive] = (ranks[positive] - middle_ranks(scores[positive])) / negatives
    placed[~positive] = 1 - (ranks[~positive] - middle_ranks(scores[~positive])) / positives
    area = placed[positive].mean()
    size = np.where(positive, positives, negatives)
    placed += (placed - area) * (len(scores) / np.sqrt(size * (size - 1.0)) - 1)
    return placed


def _f1_parts(guessed: Flags, actual: Flags) -> Floats:
    """Parts whose mean is the F1, linear in each example (the delta method of a ratio)."""
    hit, wrong = guessed & actual, guessed != actual
    weight: Floats = 2.0 * hit + wrong
    if not hit.any():
        return np.zeros(len(hit))
    f1 = float(2 * hit.sum() / weight.sum())
    linear: Floats = f1 + (2 * hit - f1 * weight) / weight.mean()
    return linear

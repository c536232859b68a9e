"""The standard error of an AUC, and that a drop of it is no chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.support.formulas import Connection, evaluate

Case = tuple[float, int, int, float, float]

# Student's t as a normal number: how much more of the tail it has at most, by degrees of freedom.
WALLACE = {1: 3.3, 2: 1.62, 3: 1.28, 5: 1.1, 10: 1.03, 100: 1.001}


def placed(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> Case:
    """What auc_stderr takes: AUC, both counts and both sums of squares."""
    low, high = scores[~positive], scores[positive]
    below = (np.searchsorted(np.sort(low), high) + np.searchsorted(np.sort(low), high, "right")) / 2
    beneath = (
        np.searchsorted(np.sort(high), low) + np.searchsorted(np.sort(high), low, "right")
    ) / 2
    auc = float(below.mean() / len(low))
    return auc, len(high), len(low), float((below**2).sum()), float((beneath**2).sum())


def draw(
    random: np.random.Generator, rows: int, auc: float, share: float = 0.5
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Normal scores of this AUC, in 40 bins."""
    positive = np.arange(rows) < round(rows * share)
    scores = random.normal(size=rows) + positive * math.sqrt(2) * stats.norm.ppf(auc)
    return np.round(scores * 8), positive


def hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return variance / (positives * negatives)


def test_auc_stderr_is_the_greater_of_both(database: Connection) -> None:
    random = np.random.default_rng(2)
    samples = [
        draw(random, rows, auc, share)
        for rows in (20, 200)
        for auc in (0.5, 0.8, 0.97)
        for share in (0.5, 0.15)
    ]
    found = evaluate(database, "auc_stderr", [placed(*sample) for sample in samples])
    for (scores, positive), value in zip(samples, found, strict=True):
        wins = np.array(
            [[(x > y) + (x == y) / 2 for y in scores[~positive]] for x in scores[positive]]
        )
        delong = wins.mean(1).var(ddof=1) / len(wins) + wins.mean(0).var(ddof=1) / len(wins[0])
        other = hanley_mcneil(float(wins.mean()), *wins.shape)
        assert value == pytest.approx(math.sqrt(max(delong, other)))
    assert evaluate(database, "auc_stderr", [(0.9, 1, 10, 81.0, 0.1), (1.0, 3, 4, 48.0, 0.0)]) == [
        pytest.approx(math.sqrt(hanley_mcneil(0.9, 1, 10))),
        0,
    ]


@pytest.mark.parametrize("degrees", WALLACE)
def test_student_z(database: Connection, degrees: int) -> None:
    tails = np.array([0.05, 0.005, 0.0005])
    t = stats.t.isf(tails, degrees)
    cases = [(float(sign * value), degrees) for value in t for sign in (1, -1)]
    z = np.array(evaluate(database, "student_z", cases))
    assert (z[::2] == -z[1::2]).all()
    ratio = stats.norm.sf(z[::2]) / tails
    assert (ratio >= 1 - 1e-5).all() and (ratio <= WALLACE[degrees]).all()


def drops(database: Connection, pairs: list[tuple[Any, Any]]) -> float:
    """The share of looks, each a baseline and a recent sample, that metric_drop calls dropped."""
    cases = [[placed(*sample) for sample in pair] for pair in pairs]
    errors = evaluate(database, "auc_stderr", [case for pair in cases for case in pair])
    tested = [
        ((old[0] - new[0]) / math.hypot(*errors[2 * i : 2 * i + 2]), min(new[1:3]) - 1)
        for i, (old, new) in enumerate(cases)
    ]
    p = evaluate(database, "normal_p_value", evaluate(database, "student_z", tested))
    found = [
        new[0] <= old[0] * 0.95 and t > 0 and value < 0.001
        for (old, new), (t, _), value in zip(cases, tested, p, strict=True)
    ]
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("rows", "share", "looks"), [(100, 0.5, 1500), (100, 0.05, 1500), (1000, 0.5, 500)]
)
def test_what_has_not_changed_seldom_drops(
    database: Connection, rows: int, share: float, looks: int
) -> None:
    random = np.random.default_rng(4)
    pairs = [
        (draw(random, rows, 0.85, share), draw(random, rows, 0.85, share)) for _ in range(looks)
    ]
    assert drops(database, pairs) <= 0.01


def test_an_auc_of_a_tenth_less_is_found_in_two_thousand_rows(database: Connection) -> None:
    random = np.random.default_rng(5)
    pairs = [(draw(random, 2000, 0.85), draw(random, 2000, 0.75)) for _ in range(100)]
    assert drops(database, pairs) >= 0.95

"""Gains and their intervals against SciPy, plain computations and the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle

from headrace.trainer.paired import ALPHA, POWER, Flags, Floats, Gain, examples_needed, metric_parts

RNG = np.random.default_rng(8)


def scores(n: int, share: float = 0.3) -> tuple[Floats, Floats, Flags]:
    """Two correlated scores, rounded so that some are equal, and which are positive."""
    positive = RNG.random(n) < share
    common = positive + RNG.normal(0, 1, n)
    return np.round(common, 1), np.round(common + RNG.normal(0, 0.7, n), 1), positive


def parts_of(metric: str, score: Floats, positive: Flags) -> Floats:
    p = 1 / (1 + np.exp(-score))
    found = metric_parts(metric, np.stack([1 - p, p], 1), positive.astype(np.intp), [1])
    assert found is not None
    return found


def naive_delong(one: Floats, other: Floats, positive: Flags) -> float:
    """Standard error of the difference of two AUCs, pair by pair."""
    placed = []
    for score in (one, other):
        difference = score[positive][:, None] - score[~positive][None, :]
        placed.append((difference > 0) + 0.5 * (difference == 0))
    variance = 0.0
    for axis in (1, 0):
        components = np.array([each.mean(axis) for each in placed])
        covariance = np.cov(components) / components.shape[1]
        variance += covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return float(variance**0.5)


def test_auc_parts_have_the_variance_of_delong() -> None:
    one, other, positive = scores(300)
    ours, theirs = (parts_of("auc", score, positive) for score in (one, other))
    assert ours.mean() == pytest.approx(oracle.roc_auc_score(positive, one))
    difference = ours - theirs
    error = difference.std() / len(difference) ** 0.5
    assert error == pytest.approx(naive_delong(one, other, positive), rel=1e-9)


@pytest.mark.parametrize("metric", ["f1", "brier", "accuracy", "log_loss"])
def test_parts_have_the_variance_of_the_bootstrap(metric: str) -> None:
    one, other, positive = scores(800)
    ours, theirs = (parts_of(metric, score, positive) for score in (one, other))
    if metric == "f1":
        assert ours.mean() == pytest.approx(oracle.f1_score(positive, one > 0))
    drawn = []
    for _ in range(1_000):
        rows = RNG.integers(0, 800, 800)
        means = [parts_of(metric, score[rows], positive[rows]).mean() for score in (one, other)]
        drawn.append(means[0] - means[1])
    assert (ours - theirs).std() / 800**0.5 == pytest.approx(np.std(drawn), rel=0.1)


def test_auc_takes_two_of_each_label_and_f1_none() -> None:
    p = np.array([[0.4, 0.6], [0.8, 0.2], [0.3, 0.7]])
    truth = np.array([1, 0, 0])
    assert metric_parts("auc", p, truth, [1]) is None
    f1 = metric_parts("f1", p[1:2], truth[1:2], [1])
    assert f1 is not None and f1.tolist() == [0]


def test_without_skewness_it_is_the_t_interval() -> None:
    half = RNG.normal(0, 1, 30)
    parts = np.concatenate([half, -half]) + 0.1
    gain = Gain.of(parts * 2, 2.0)
    assert gain is not None and gain.skewness == pytest.approx(0, abs=1e-9)
    low = stats.ttest_1samp(parts, 0).confidence_interval(1 - 2 * ALPHA).low
    assert gain.at_least() == pytest.approx(low)
    assert gain.chance() == pytest.approx(stats.ttest_1samp(parts, 0, alternative="less").pvalue)


_numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


@given(st.lists(_numbers, min_size=2, max_size=40), st.floats(0.001, 0.5))
def test_the_interval_and_the_p_value_agree(values: list[float], alpha: float) -> None:
    parts = np.array(values)
    gain, loss = Gain.of(parts, 1.0), Gain.of(-parts, 1.0)
    assert gain is not None and loss is not None
    if abs(loss.chance() - alpha) > 1e-6:
        assert (gain.at_least(alpha) > 0) == (loss.chance() < alpha)
    assert gain.at_least(alpha) <= gain.at_least(alpha * 1.5)


@pytest.mark.parametrize("sign", [1, -1])
def test_skewed_parts_pass_by_chance_as_often_as_others(sign: int) -> None:
    """A few large losses, or gains: a t interval would pass 7 % or 2 % of 50 examples."""
    runs = 3_000
    drawn = sign * (RNG.exponential(size=(runs, 60)) - 1)
    gains = [gain for row in drawn if (gain := Gain.of(row, 1.0))]
    assert 0.025 < np.mean([gain.at_least() > 0 for gain in gains]) < 0.06
    assert 0.025 < np.mean([gain.chance() < ALPHA for gain in gains]) < 0.06


def test_equal_parts_are_certain() -> None:
    up, none = Gain.of(np.full(9, 0.3), 3.0), Gain.of(np.zeros(9), 3.0)
    assert up is not None and none is not None
    assert up.at_least() == up.value == pytest.approx(0.1)
    assert up.chance() == none.chance() == 1
    assert none.at_least() == 0
    assert Gain.of(np.array([1.0]), 1.0) is None


def test_the_size_has_the_wanted_power() -> None:
    n = examples_needed(0.5)
    assert n == pytest.approx((2.593 * 0.5 / 0.025) ** 2, rel=0.001)
    runs = 1_000
    gains = [Gain.of(RNG.normal(0.025, 0.5, n), 1.0) for _ in range(runs)]
    passed = np.mean([gain is not None and gain.at_least() > 0 for gain in gains])
    assert passed == pytest.approx(POWER, abs=0.05)

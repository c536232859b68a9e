"""Exploration, by simulation: what is logged is what was used, and what is learned is enough."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from headrace.model.explore import (
    Arms,
    Exploration,
    Floats,
    Policy,
    Shares,
    choose,
    evidence,
    probabilities,
    ranked,
)

POLICIES: list[Policy] = ["off", "epsilon", "boltzmann", "ucb1", "thompson", "dropout"]
REWARDS = np.array([0.2, 0.25, 0.5, 0.4])
VALUES = np.array([[0.1, 0.5, 0.3, 0.1], [0.3, 0.3, 0.35, 0.05], [0.2, 0.4, 0.3, 0.1]])
KNOWN = Arms(np.array([50.0, 3.0, 20.0, 0.0]), np.array([0.2, 0.3, 0.5, 0.0]), np.full(4, 0.2))


def how(policy: Policy, rate: float = 0.1) -> Exploration:
    return Exploration(policy, rate=rate, temperature=0.2)


def wanted_by(exploration: Exploration, arms: Arms | None = KNOWN, seed: str = "") -> Floats:
    return probabilities(exploration, evidence(exploration, VALUES, arms, seed))


@given(
    policy=st.sampled_from(POLICIES),
    rate=st.floats(0, 1),
    temperature=st.floats(0, 10),
    values=st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    data=st.data(),
)
def test_they_are_probabilities_with_a_floor(
    policy: Policy, rate: float, temperature: float, values: list[float], data: st.DataObject
) -> None:
    k = len(values)
    counts = data.draw(st.lists(st.integers(0, 50), min_size=k, max_size=k))
    pulls = np.array(counts, float)
    arms = Arms(pulls, np.clip(values, 0, 1), np.full(k, 0.1), data.draw(st.booleans()))
    exploration = Exploration(policy, rate, temperature)
    worth = evidence(exploration, np.array(values), arms, "r1")
    told = probabilities(exploration, worth)
    assert told.shape == (k,) and abs(told.sum() - 1) < 1e-9 and (told >= rate / k - 1e-12).all()
    assert told[choose(told, "r1")] > 0
    order = ranked(exploration, worth, "r1")
    assert sorted(at for at, _ in order) == list(range(k))
    assert all(0 < propensity <= 1 + 1e-9 for _, propensity in order)
    assert abs(order[-1][1] - 1) < 1e-9  # there is no choice left
    assert order == ranked(exploration, worth, "r1")


def test_each_policy_chooses_as_its_source_says() -> None:
    even = 0.1 / 4
    np.testing.assert_allclose(wanted_by(how("epsilon")), [even, 0.9 + even, even, even])
    exp = np.exp(VALUES.mean(0) / 0.2)
    np.testing.assert_allclose(wanted_by(how("boltzmann")), 0.9 * exp / exp.sum() + even)
    assert wanted_by(how("ucb1")).argmax() == 3  # was never pulled
    bounds = [0.2 + np.sqrt(2 * np.log(73) / 50), 0.3 + np.sqrt(2 * np.log(73) / 3),
              0.5 + np.sqrt(2 * np.log(73) / 20)]  # fmt: skip
    three = Arms(KNOWN.pulls[:3], KNOWN.mean[:3], KNOWN.variance[:3])
    ucb1 = how("ucb1", 0)
    assert probabilities(ucb1, evidence(ucb1, VALUES[:, :3], three)).argmax() == np.argmax(bounds)
    np.testing.assert_allclose(wanted_by(how("dropout", 0)), [0, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(wanted_by(how("thompson"), None), wanted_by(how("epsilon")))


def test_thompson_is_the_probability_of_being_best() -> None:
    rng = np.random.default_rng(5)
    won = KNOWN.mean * KNOWN.pulls
    best = rng.beta(1 + won, 1 + KNOWN.pulls - won, (200_000, 4)).argmax(1)
    exact = np.bincount(best, minlength=4) / len(best)
    mean = np.mean([wanted_by(how("thompson", 0), seed=f"r{n}") for n in range(200)], axis=0)
    np.testing.assert_allclose(mean, exact, atol=0.01)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_logged_is_how_often_it_is_chosen(policy: Policy) -> None:
    exploration = how(policy, 0.3)
    chosen: Counter[int] = Counter()
    expected = np.zeros(4)
    for n in range(4_000):
        told = wanted_by(exploration, seed=f"request {n}")
        chosen[choose(told, f"request {n}")] += 1
        expected += told
    assert chisquare([chosen[arm] for arm in range(4)], expected).pvalue > 0.001


@pytest.mark.parametrize("policy", ["epsilon", "boltzmann", "ucb1", "thompson"])
def test_ips_of_the_logging_policy_is_its_mean_and_of_another_one_its_value(policy: Policy) -> None:
    """100 logs of 400: the intervals of 95 % hold what they should about as often."""
    covered = {"itself": 0, "even": 0}
    for log in range(100):
        rng = np.random.default_rng(log)
        exploration = how(policy, 0.4)
        told = wanted_by(exploration, seed=f"log {log}")
        arms = np.array([choose(told, f"{log}/{n}") for n in range(400)])
        rewards = (rng.random(400) < REWARDS[arms]).astype(float)
        for target, value, share in (
            ("itself", told @ REWARDS, told[arms]), ("even", REWARDS.mean(), np.full(400, 0.25))
        ):  # fmt: skip
            weighted = rewards * share / told[arms]
            off = abs(weighted.mean() - value)
            covered[target] += off < 1.96 * weighted.std(ddof=1) / np.sqrt(400)
    assert covered["itself"] >= 88 and covered["even"] >= 85


@pytest.mark.parametrize("policy", ["ucb1", "thompson"])
def test_regret_grows_slower_than_of_even_choices(policy: Policy) -> None:
    def regret(exploration: Exploration, rounds: int, seed: int) -> float:
        rng = np.random.default_rng(seed)
        pulls, won, lost = np.zeros(4), np.zeros(4), 0.0
        for n in range(rounds):
            mean = won / np.maximum(pulls, 1)
            arms = Arms(pulls, mean, mean * (1 - mean))
            worth = evidence(exploration, np.zeros(4), arms, f"{seed}/{n}")
            arm = choose(probabilities(exploration, worth), f"{seed}/{n}")
            reward = rng.random() < REWARDS[arm]
            pulls[arm] += 1
            won[arm] += reward
            lost += REWARDS.max() - REWARDS[arm]
        return lost

    short, long = (
        np.mean([regret(how(policy, 0), rounds, seed) for seed in range(5)])
        for rounds in (500, 2_000)
    )
    even = 2_000 * (REWARDS.max() - REWARDS.mean())
    assert long < 0.6 * even and long < 3 * short


def test_rate_and_temperature_halve() -> None:
    cooled = Exploration("boltzmann", 0.4, 0.8, half_life=100).after(200)
    assert (cooled.rate, cooled.temperature) == (0.1, 0.2)
    assert Exploration("epsilon", 0.4).after(1e9).rate == 0.4


def test_an_arm_above_its_share_is_left_out_until_it_is_below() -> None:
    shares = Shares()
    for n in range(100):
        shares.note("a" if n % 2 else "b")
    assert shares.allowed(["a", "b", "c"], 0.5) == [2]
    assert shares.allowed(["a", "b"], 0.4) == [0, 1]  # all of them are above
    assert shares.allowed(["a", "b", "c"], 1.0) == [0, 1, 2]
    for _ in range(1_000):
        shares.note("c")
    assert shares.allowed(["a", "b", "c"], 0.5) == [0, 1]

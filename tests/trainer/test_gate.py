from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from headrace.trainer.compare import (
    METRICS,
    Answers,
    Judged,
    evaluate,
    prior,
    roc_auc,
    slices,
)
from headrace.trainer.gate import GatePolicy, decide
from headrace.trainer.paired import Floats, examples_needed

LABELS = ["n", "y"]


@given(
    st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=2, max_size=60).filter(
        lambda rows: len({label for _, label in rows}) == 2
    )
)
def test_auc_counts_ties_half(rows: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 10 for score, _ in rows])
    labels = np.array([label for _, label in rows])
    assert roc_auc(scores, labels) == pytest.approx(oracle.roc_auc_score(labels, scores))


def test_two_labels_equal_the_oracle() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(500) < 0.3
    p = np.clip(truth * 0.3 + rng.random(500) * 0.6, 0.01, 0.99)
    got = evaluate(
        np.stack([p, 1 - p], 1), np.where(truth, "bad", "good").tolist(), ["bad", "good"], "bad"
    )
    assert got.auc == pytest.approx(oracle.roc_auc_score(truth, p))
    assert got.f1 == pytest.approx(oracle.f1_score(truth, p > 0.5))
    assert got.log_loss == pytest.approx(oracle.log_loss(truth, p))
    assert got.accuracy == pytest.approx(oracle.accuracy_score(truth, p > 0.5))
    assert got.brier == pytest.approx(2 * oracle.brier_score_loss(truth, p))


def test_many_labels_equal_the_oracle() -> None:
    rng = np.random.default_rng(4)
    labels = ["a", "b", "c"]
    truth = rng.integers(0, 3, 400)
    p = rng.dirichlet(np.ones(3), 400) + 0.3 * np.eye(3)[truth]
    p /= p.sum(1, keepdims=True)
    got = evaluate(p, [labels[one] for one in truth], labels)
    assert got.auc == pytest.approx(oracle.roc_auc_score(truth, p, multi_class="ovr"))
    assert got.f1 == pytest.approx(oracle.f1_score(truth, p.argmax(1), average="macro"))
    assert got.log_loss == pytest.approx(oracle.log_loss(truth, p))


def test_one_class_has_no_auc_and_an_unknown_label_is_a_mistake() -> None:
    p = np.array([[0.4, 0.6], [0.2, 0.8]])
    assert evaluate(p, ["y", "y"], ["n", "y"]).auc is None
    assert evaluate(p, ["y", "new"], ["n", "y"]).accuracy == 0.5


@pytest.mark.parametrize(
    ("p", "actual", "positive"),
    [(np.zeros((0, 2)), [], None), (np.zeros((2, 3)), ["a", "b"], None)],
)
def test_wrong_shapes_say_what_came(p: np.ndarray, actual: list[str], positive: None) -> None:
    with pytest.raises(ValueError, match=r"probabilities must be .* got"):
        evaluate(p, actual, ["a", "b"], positive)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        evaluate(np.array([[0.5, 0.5], [0.5, wrong]]), ["n", "y"], LABELS)


def answers(of_truth: Floats, actual: list[str]) -> Answers:
    """A version that gives the true label these probabilities."""
    of_y = np.where(np.array(actual) == "y", of_truth, 1 - of_truth)
    return Answers(LABELS, np.stack([1 - of_y, of_y], 1))


def judged(
    n: int,
    gain: float,
    noise: float = 0.05,
    segments: list[str | None] | None = None,
    seed: int = 0,
) -> Judged:
    """Two versions whose log losses differ by `gain` on average, and by `noise` from row to row."""
    rng = np.random.default_rng(seed)
    actual = rng.choice(LABELS, n).tolist()
    rival = rng.uniform(0.4, 0.8, n)
    change = rng.normal(0, noise, n)
    change += gain * -np.log(rival).mean() - change.mean()
    return Judged(
        actual, answers(rival * np.exp(change), actual), answers(rival, actual), segments or ()
    )


def test_slices_are_the_segments_of_some_size() -> None:
    named = judged(5, 0, segments=["x", None, "x", "y", None])
    assert {name: len(one) for name, one in slices(named, 2).items()} == {
        "segment 'x'": 2,
        "segment ''": 2,
    }
    assert slices(judged(5, 0), 1) == {}


def test_a_gain_beyond_chance_passes_and_is_told_with_its_interval() -> None:
    verdict = decide(judged(1_200, 0.1), against="v3")
    assert verdict.passed
    low, value = verdict.metrics["at_least"], verdict.metrics["improvement"]
    assert 0 < low < value == pytest.approx(0.1)
    assert verdict.newest is not None
    both = (verdict.newest.candidate, verdict.newest.rival)
    ours, theirs = (side["log_loss"] for side in both)
    assert verdict.reason == (
        f"log_loss on the 1,200 newest examples {ours:.4f} from {theirs:.4f} "
        f"(+10.0%, at least {low:+.1%}, against v3)"
    )


@pytest.mark.parametrize(
    ("sample", "policy", "said"),
    [
        (judged(400, 0.1, noise=1.0), {}, "against the champion): this may be chance"),
        (judged(400, 0.004, noise=0.001), {}, "less than the 0.5% asked"),
        (judged(400, 0.004, noise=0.001), {"min_improvement": 0.0}, None),
        (judged(400, -0.02, noise=0.01), {"min_improvement": -0.05}, None),
        (judged(400, -0.02, noise=0.4), {"min_improvement": -0.05}, "this may be chance"),
        (judged(1, 0.5), {}, "cannot be measured: there are too few"),
        (judged(9, 0.5).where(np.zeros(9, bool)), {}, "no newest example to compare on"),
    ],
)
def test_chance_and_what_is_asked(
    sample: Judged, policy: dict[str, float], said: str | None
) -> None:
    verdict = decide(sample, policy=GatePolicy(**policy))  # type: ignore[arg-type]
    assert verdict.passed is (said is None)
    assert said is None or said in verdict.reason


def in_segments(worse: float, noise: float, size: int, segments: int = 1) -> Judged:
    """A better version, whose last segment of `size` is worse."""
    good = judged(600 * segments, 0.3)
    bad = judged(size, -worse, noise)
    names: list[str | None] = [f"s{i % segments}" for i in range(600 * segments)]
    names += ["eu"] * size
    both = [
        np.concatenate([one.probabilities, other.probabilities])
        for one, other in ((good.candidate, bad.candidate), (good.rival, bad.rival))
    ]
    return Judged(
        [*good.actual, *bad.actual], Answers(LABELS, both[0]), Answers(LABELS, both[1]), names
    )


def test_a_segment_rejects_where_it_loses_more_than_is_allowed_and_than_chance() -> None:
    verdict = decide(in_segments(0.2, 0.1, 100))
    assert not verdict.passed
    assert "but on segment 'eu' (n=100) log_loss" in verdict.reason
    assert "20.0% worse: more than the 10.0% allowed, and than chance" in verdict.reason
    assert decide(in_segments(0.05, 0.01, 100)).passed  # allowed
    assert decide(in_segments(0.2, 1.0, 100)).passed  # may be chance
    assert decide(in_segments(0.2, 0.1, 49)).passed  # too small to tell


def test_the_more_segments_the_more_it_takes() -> None:
    assert not decide(in_segments(0.2, 0.4, 100, segments=1)).passed
    assert decide(in_segments(0.2, 0.4, 100, segments=10)).passed


def test_what_was_forgotten_rejects() -> None:
    verdict = decide(judged(600, 0.1), judged(400, -0.2))
    assert not verdict.passed
    assert "but on the old examples (n=400) log_loss" in verdict.reason
    assert decide(judged(600, 0.1), judged(400, -0.04, noise=0.01)).passed
    assert decide(judged(600, 0.1), judged(400, -0.1, noise=2.0)).passed


def test_labels_that_one_side_does_not_know_are_left_out() -> None:
    known = judged(400, 0.1)
    actual = ["new" if i < 8 else "gone" if i < 11 else one for i, one in enumerate(known.actual)]
    wide = np.pad(known.candidate.probabilities, ((0, 0), (0, 1)))
    verdict = decide(Judged(actual, Answers([*LABELS, "new"], wide), known.rival))
    assert verdict.metrics["left_out"] == {
        "seen": 0, "unknown": 11, "unknown_labels": {"new": 8, "gone": 3},
    }  # fmt: skip
    assert "without 11 with labels that one side does not know ('new', 'gone')" in verdict.reason
    rest = np.arange(400) >= 11
    assert verdict.newest is not None
    assert verdict.newest.gain == known.where(rest).compare("log_loss").gain


def test_what_the_rival_was_trained_on_is_left_out() -> None:
    seen = np.arange(400) < 150
    sample = judged(400, 0.1)
    verdict = decide(sample, seen=seen, against="v3")
    assert verdict.newest == sample.where(~seen).compare("log_loss")
    assert verdict.metrics["left_out"]["seen"] == 150
    assert "without 150 of the time that v3 was trained on" in verdict.reason
    assert not decide(sample, seen=seen | True).passed


def test_a_metric_that_cannot_be_measured_fails() -> None:
    sample = judged(100, 0.1).where(np.array([one == "y" for one in judged(100, 0.1).actual]))
    verdict = decide(sample, policy=GatePolicy(metric="auc"))
    assert not verdict.passed
    assert "a label occurs less than twice" in verdict.reason


def test_the_first_version_must_beat_the_prior() -> None:
    actual = ["y"] * 30 + ["n"] * 70
    base = Answers(LABELS, prior({"n": 0.7, "y": 0.3}, LABELS, 100))
    same = decide(Judged(actual, base, base), against="the prior")
    assert not same.passed
    assert "against the prior" in same.reason
    assert same.newest is not None
    entropy = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert same.newest.rival["log_loss"] == pytest.approx(entropy)


def test_an_unknown_metric_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="metric must be one of auc"):
        GatePolicy(metric="precision")


SPREAD = 0.67  # of two versions of one world below; of the demo's versions 0.4 to 0.6
POOL = 7_000
RUNS = 500


def world(rng: np.random.Generator, n: int, own: float, rival: float) -> Judged:
    """Two versions that know a logit but for an error of both and one of their own.

    Their log losses are correlated by 0.9, as those of successive versions are.
    """
    truth = rng.normal(-1.0, 2.2, n)
    actual = np.where(rng.random(n) * (1 + np.exp(-truth)) < 1, "y", "n").tolist()
    both = truth + rng.normal(0, 1, n)
    sides = [1 / (1 + np.exp(-both - rng.normal(0, one, n))) for one in (own, rival)]
    ours, theirs = (Answers(LABELS, np.stack([1 - p, p], 1)) for p in sides)
    return Judged(actual, ours, theirs)


@pytest.mark.parametrize("metric", METRICS["classification"])
def test_every_metric_tells_better_from_equal(metric: str) -> None:
    rng = np.random.default_rng(21)
    policy = GatePolicy(metric=metric)
    assert decide(world(rng, 4_000, 0.1, 2), policy=policy, positive="y").passed
    assert not decide(world(rng, 4_000, 2, 0.1), policy=policy, positive="y").passed
    equal = [decide(world(rng, 300, 1, 1), policy=policy, positive="y") for _ in range(100)]
    assert sum(verdict.passed for verdict in equal) <= 11


# The candidate's own error, by bisection over 400,000 examples; the rival's is 0.6.
@pytest.mark.parametrize(
    ("own", "better", "fewest", "most"),
    [(0.761, -0.027, 0, 0.02), (0.6, 0, 0, 0.05), (0.377, 0.027, 0.8, 1)],
)
def test_versions_pass_as_often_as_they_should(
    own: float, better: float, fewest: float, most: float
) -> None:
    rng = np.random.default_rng(20)
    n = examples_needed(SPREAD)
    assert n <= POOL
    verdicts = [decide(world(rng, n, own, 0.6)) for _ in range(RUNS)]
    gains = np.array([verdict.metrics["improvement"] for verdict in verdicts])
    assert gains.mean() == pytest.approx(better, abs=4 * gains.std() / RUNS**0.5)
    # Of RUNS, three standard errors beyond the bar are chance.
    chance = 3 * (most * (1 - most) / RUNS) ** 0.5
    assert fewest <= np.mean([verdict.passed for verdict in verdicts]) <= most + chance


def rare(rng: np.random.Generator, n: int, own: float, rate: float) -> Judged:
    """Two versions of a world with few positives; the rival's own error is 0.6."""
    truth = rng.normal({0.01: -5.35, 0.003: -6.66}[rate], 1.5, n)
    actual = np.where(rng.random(n) * (1 + np.exp(-truth)) < 1, "y", "n").tolist()
    both = truth + rng.normal(0, 0.7, n)
    sides = [1 / (1 + np.exp(-both - rng.normal(0, one, n))) for one in (own, 0.6)]
    ours, theirs = (Answers(LABELS, np.stack([1 - p, p], 1)) for p in sides)
    return Judged(actual, ours, theirs)


# The candidate's own error for a log loss that is 2.7 % worse, equal, and 2.7 % better.
@pytest.mark.parametrize(
    ("rate", "own", "fewest", "most"),
    [
        (0.01, 0.756, 0, 0.02), (0.01, 0.6, 0, 0.05), (0.01, 0.368, 0.3, 1),
        (0.003, 0.768, 0, 0.02), (0.003, 0.6, 0, 0.05), (0.003, 0.329, 0.2, 1),
    ],
)  # fmt: skip
def test_rare_positives_pass_no_oftener_by_chance(
    rate: float, own: float, fewest: float, most: float
) -> None:
    rng, runs = np.random.default_rng(20), 300
    verdicts = [decide(rare(rng, POOL, own, rate)) for _ in range(runs)]
    chance = 3 * (most * (1 - most) / runs) ** 0.5
    assert fewest <= np.mean([verdict.passed for verdict in verdicts]) <= most + chance


def test_a_verdict_on_few_positives_says_so() -> None:
    sample = judged(400, 0.1)
    kept = np.array([one == "n" for one in sample.actual])
    kept[np.flatnonzero(~kept)[:9]] = True
    verdict = decide(sample.where(kept))
    assert "against the champion), of which only 9 are not 'n'" in verdict.reason
    assert "of which only" not in decide(sample).reason

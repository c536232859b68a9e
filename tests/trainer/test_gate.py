from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from headrace.trainer.gate import (
    HOLDOUT,
    OLD,
    GatePolicy,
    ModelMetrics,
    decide,
    evaluate,
    evaluate_slices,
    prior,
    roc_auc,
)


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


def test_slices_cover_every_example() -> None:
    p = np.array([[0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    got = evaluate_slices(p, ["a", "b", "a"], ["x", None, "x"], ["a", "b"])
    assert {name: one.n for name, one in got.items()} == {"segment 'x'": 2, "segment ''": 1}


def measured(log_loss: float, n: int = 400, auc: float | None = 0.8) -> ModelMetrics:
    return ModelMetrics(n=n, auc=auc, f1=0.5, log_loss=log_loss, accuracy=0.8, brier=0.3)


@pytest.mark.parametrize(
    ("candidate", "champion", "passed", "said"),
    [
        ({HOLDOUT: measured(0.45)}, {HOLDOUT: measured(0.50)}, True, "0.4500 from 0.5000 (+10.0%"),
        ({HOLDOUT: measured(0.499)}, {HOLDOUT: measured(0.50)}, False, "less than the 0.5% asked"),
        (
            {HOLDOUT: measured(0.4), OLD: measured(0.6)},
            {HOLDOUT: measured(0.5), OLD: measured(0.5)},
            False,
            "the old examples (n=400) log_loss 0.6000 from 0.5000 is 20.0% worse",
        ),
        (
            {HOLDOUT: measured(0.4), "segment 'eu'": measured(0.6)},
            {HOLDOUT: measured(0.5), "segment 'eu'": measured(0.5)},
            False,
            "segment 'eu'",
        ),
        (
            {HOLDOUT: measured(0.4), "segment 'eu'": measured(0.9, n=49)},
            {HOLDOUT: measured(0.5), "segment 'eu'": measured(0.5, n=49)},
            True,
            "newest",
        ),
        ({HOLDOUT: measured(0.4)}, None, False, "nothing to compare with"),
    ],
)
def test_verdicts(
    candidate: dict[str, ModelMetrics],
    champion: dict[str, ModelMetrics] | None,
    passed: bool,
    said: str,
) -> None:
    verdict = decide(candidate, champion)
    assert verdict.passed is passed
    assert said in verdict.reason


def test_a_metric_that_cannot_be_measured_fails() -> None:
    one_label = {HOLDOUT: measured(0.4, auc=None)}
    verdict = decide(one_label, one_label, GatePolicy(metric="auc"))
    assert not verdict.passed
    assert "only one label" in verdict.reason


def test_the_first_version_must_beat_the_prior() -> None:
    actual = ["y"] * 30 + ["n"] * 70
    labels = ["n", "y"]
    base = evaluate(prior({"n": 0.7, "y": 0.3}, labels, 100), actual, labels)
    same = decide({HOLDOUT: base}, {HOLDOUT: base}, against="the prior")
    assert not same.passed
    assert "against the prior" in same.reason
    assert base.log_loss == pytest.approx(-(0.3 * np.log(0.3) + 0.7 * np.log(0.7)))


def test_an_unknown_metric_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="metric must be one of auc"):
        GatePolicy(metric="precision")

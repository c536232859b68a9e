"""Which rows are trained on, how much each counts, and that probabilities stay true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.model.outliers import outliers
from headrace.model.prior import corrected
from headrace.model.sampling import Floats, Sampled, Sampling, sample
from headrace.trainer.compare import roc_auc

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int, label: str = "a", text: str = "", **more: Any) -> LabeledExample:
    features = more.pop("features", {"i": number})
    when = NOW + timedelta(hours=number)
    request = more.pop("request_id", f"r{number}")
    return LabeledExample(request, when, when, Example(text, None, features), label, **more)


def numbers(rows: Sequence[LabeledExample]) -> list[int]:
    return [int(one.request_id.removeprefix("r")) for one in rows]


settings = st.builds(
    Sampling,
    examples=st.integers(0, 60),
    recent=st.floats(0, 1),
    by=st.sampled_from(["reservoir", "uncertainty", "balance"]),
    weights=st.sampled_from(["none", "balance", "propensity"]),
    half_life=st.sampled_from([0.0, 1e-5, 3.0]),
    per_user=st.integers(0, 3),
    duplicates=st.sampled_from(["keep", "merge"]),
    outliers=st.sampled_from(["keep", "drop"]),
)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=60), settings)
def test_a_sample_is_of_the_rows_and_keeps_to_its_limits(
    drawn: list[tuple[str, int]], sampling: Sampling
) -> None:
    rows = [
        row(i, label, user_id=f"u{kind}" if kind < 5 else None, features={"kind": kind},
            propensity=kind / 10 or None)
        for i, (label, kind) in enumerate(drawn)
    ]  # fmt: skip

    def score(examples: Sequence[Example]) -> Floats:
        return np.array([[one.features["kind"], 10] for one in examples], dtype=float)

    got = sample(rows, sampling, 1, score)
    at = numbers(got.rows)
    assert at == sorted(set(at))
    assert all(rows[one] is kept for one, kept in zip(at, got.rows, strict=True))
    assert not sampling.examples or len(at) <= sampling.examples
    users = Counter(one.user_id for one in got.rows if one.user_id)
    assert not sampling.per_user or not users or max(users.values()) <= sampling.per_user
    assert len(got.weights) == len(at) == got.report["kept"]
    if at:
        assert got.weights.mean() == pytest.approx(1)
        assert got.weights.min() > 0
    if sampling.weights == "balance":
        sums: Counter[str] = Counter()
        for one, weight in zip(got.rows, got.weights.tolist(), strict=True):
            sums[one.label] += weight
        assert [*sums.values()] == pytest.approx([len(at) / len(sums)] * len(sums) if sums else [])
    again = sample(rows, sampling, 1, score)
    assert numbers(again.rows) == at and np.array_equal(again.weights, got.weights)


def test_the_newest_are_kept_and_each_older_one_has_the_same_chance() -> None:
    rows = [row(i) for i in range(60)]
    sampling = Sampling(examples=20, recent=0.5)
    drawn = [numbers(sample(rows, sampling, seed).rows) for seed in range(2_000)]
    assert all(at[-10:] == [*range(50, 60)] for at in drawn)
    counts = np.bincount([one for at in drawn for one in at[:-10]], minlength=50)
    # Of 2,000 draws of 10 of 50 each row is in 400 on average, give or take 18.
    assert counts.min() > 400 - 5 * 18 and counts.max() < 400 + 5 * 18


def test_items_of_one_request_are_drawn_together() -> None:
    rows = [row(i, request_id=f"r{i // 4}", item_id=str(i), position=i % 4 + 1) for i in range(80)]
    for seed in range(20):
        got = sample(rows, Sampling(examples=30, recent=0.3, duplicates="merge"), seed)
        assert {*Counter(one.request_id for one in got.rows).values()} == {4}
        assert 24 <= len(got.rows) <= 30


def test_a_cap_counts_the_requests_of_a_user() -> None:
    rows = [row(i, request_id=f"r{i // 4}", user_id=f"u{i // 4 % 2}") for i in range(80)]
    got = sample(rows, Sampling(per_user=3), 0)
    assert Counter(one.user_id for one in got.rows) == {"u0": 12, "u1": 12}
    assert {*Counter(one.request_id for one in got.rows).values()} == {4}


def test_balance_keeps_all_of_a_rare_class_and_says_by_how_much_it_is_too_frequent() -> None:
    rows = [row(i, "rare" if i % 50 == 0 else "common") for i in range(1_000)]
    got = sample(rows, Sampling(examples=60, recent=0.0, by="balance"), 3)
    assert Counter(one.label for one in got.rows) == {"rare": 20, "common": 40}
    assert got.shift["rare"] - got.shift["common"] == pytest.approx(np.log(20 / 980 / (20 / 40)))
    assert sample(rows, Sampling(examples=60), 3).shift == {}


def test_uncertainty_takes_what_the_parent_is_least_sure_about_or_says_that_it_cannot() -> None:
    rows = [row(i) for i in range(100)]

    def score(examples: Sequence[Example]) -> Floats:
        p = np.array([one.features["i"] for one in examples], dtype=float) / 100
        return np.stack([p, 1 - p], 1)

    sampling = Sampling(examples=20, recent=0.5, by="uncertainty")
    assert numbers(sample(rows, sampling, 0, score).rows[:10]) == [*range(45, 55)]
    assert sample(rows, sampling, 0).report["by"].startswith("reservoir, as there is no parent")


def test_weights_by_age_and_clipped_propensity() -> None:
    rows = [row(0, propensity=0.5), row(24, propensity=0.01), row(48)]
    got = sample(rows, Sampling(weights="propensity", clip=8.0, half_life=1.0), 0).weights
    assert (got / got[2]).tolist() == pytest.approx([2 / 4, 8 / 2, 1])


def test_duplicates_become_one_and_contradictions_stay() -> None:
    rows = [row(i, "no" if i == 3 else "yes", "same", features={}) for i in range(5)]
    got = sample([*rows, row(9)], Sampling(duplicates="merge"), 0)
    assert numbers(got.rows) == [3, 4, 9]
    assert (got.weights / got.weights[0]).tolist() == pytest.approx([1, 4, 1])
    assert (got.report["merged"], got.report["conflicting"]) == (3, 1)


def planted() -> list[LabeledExample]:
    """Numbers of many shapes, texts of many users, and one of each kind of outlier."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(600):
        features = {
            "normal": rng.normal(), "price": rng.lognormal(3, 1.5), "wait": rng.exponential(5),
            "count": float(rng.poisson(0.2)), "flag": bool(i % 2), "huge": 10**400 + i,
        }  # fmt: skip
        label = "good" if rng.random() < (0.85 if i % 3 else 0.15) else "bad"
        rows.append(
            row(
                i,
                label,
                f"text {i}",
                features=features,
                user_id=f"u{rng.integers(20)}",
                item_id=f"i{i % 30}",
            )
        )
    return rows


def test_outliers_are_found_and_nothing_else() -> None:
    clean = planted()
    assert {kind: int(flags.sum()) for kind, flags in outliers(clean).items()} == {
        "numbers": 0, "spam": 0, "contrary": 0,
    }  # fmt: skip
    far = replace(clean[5], example=Example("", None, {"normal": -1e9}))
    spam = [
        replace(row(0, text="buy", user_id="s"), event_time=NOW + timedelta(minutes=i))
        for i in range(7)
    ]
    slow = [row(i, text="hello", user_id="s") for i in range(7)]  # one an hour
    usual = {
        item: Counter(one.label for one in clean if one.item_id == item).most_common(1)[0][0]
        for item in {one.item_id for one in clean}
    }
    contrary = [
        row(
            900 + i,
            "bad" if label == "good" else "good",
            user_id="x",
            item_id=item,
            features={},
        )
        for i, (item, label) in enumerate(usual.items())
    ]
    rows = [*clean, far, *spam, *slow, *contrary]
    found = {kind: np.flatnonzero(flags).tolist() for kind, flags in outliers(rows).items()}
    assert found == {
        "numbers": [600],
        "spam": [*range(602, 608)],
        "contrary": [*range(615, 615 + len(contrary))],
    }
    kept, dropped = (sample(rows, Sampling(outliers=one), 0) for one in ("keep", "drop"))  # type: ignore[arg-type]
    assert kept.report["spam"] == 6 and len(kept.rows) == len(rows)
    assert len(dropped.rows) == len(rows) - dropped.report["dropped"] == len(rows) - 7 - 30


def rare(count: int, seed: int) -> list[LabeledExample]:
    """Three numbers, of which two tell 0.3 % positives."""
    x = np.random.default_rng(seed).normal(size=(count, 3))
    logit = 1.5 * x[:, 0] + x[:, 1] - 7.55
    positive = np.random.default_rng(seed + 1).random(count) * (1 + np.exp(-logit)) < 1
    return [
        row(i, "yes" if yes else "no", features=dict(zip("abc", values, strict=True)))
        for i, (yes, values) in enumerate(zip(positive, x.tolist(), strict=True))
    ]


class Logistic:
    """scikit-learn's logistic regression, as a version."""

    labels: tuple[str, ...] = ("no", "yes")
    features: tuple[str, ...] = ("a", "b", "c")

    def __init__(self, drawn: Sampled) -> None:
        labels = [one.label for one in drawn.rows]
        self._fitted = LogisticRegression().fit(_x(drawn.rows), labels, drawn.weights)

    def predict(self, examples: Sequence[Example]) -> Floats:
        p: Floats = self._fitted.predict_proba([[*one.features.values()] for one in examples])
        return p


def _x(rows: Sequence[LabeledExample]) -> list[list[Any]]:
    return [[*one.example.features.values()] for one in rows]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(weights="balance"),
        Sampling(examples=2_000, recent=0.0, by="balance"),
        Sampling(examples=2_000, recent=0.5, by="balance", weights="balance"),
    ],
    ids=["weights", "by", "both"],
)
def test_rare_positives_are_found_and_no_likelier_than_they_are(sampling: Sampling) -> None:
    rows, test = rare(20_000, 0), rare(50_000, 7)
    truth = np.array([one.label == "yes" for one in test])
    areas, means = [], []
    for how in (Sampling(), sampling):
        drawn = sample(rows, how, 0)
        assert bool(drawn.shift) is (how is sampling)
        version = corrected(Logistic(drawn), [drawn.shift.get(one, 0.0) for one in ("no", "yes")])
        positive = version.predict([one.example for one in test])[:, 1]
        areas.append(roc_auc(positive, truth) or 0.0)
        means.append(positive.mean())
    # The positives among the 20,000 vary by a standard error of 13 %, the others by 8 %.
    assert means == pytest.approx([truth.mean()] * 2, rel=3 * (0.13**2 + 0.08**2) ** 0.5)
    assert areas[1] > areas[0] - 0.005 > 0.85

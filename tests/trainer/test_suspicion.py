"""What is too good to be true is turned down, with the feature that gives the label away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headrace.model.inputs import Example
from headrace.trainer.compare import Comparison
from headrace.trainer.gate import Verdict
from headrace.trainer.suspicion import GIVES_AWAY, doubt, most_telling

PASSED = Verdict(True, "log_loss 0.0001 from 0.6931 (+100.0% against the prior)", {"n": 1})
RNG = np.random.default_rng(6)
COINS = RNG.choice(["ok", "fraud"], 400).tolist()


def compared(
    auc: float | None, rival: float | None, held_out: list[str], accuracy: float = 1.0
) -> Verdict:
    """A verdict that passed on these metrics."""
    ours, theirs = (
        {"n": len(held_out), "auc": area, "accuracy": share}
        for area, share in ((auc, accuracy), (rival, 0.5))
    )
    return replace(PASSED, newest=Comparison(ours, theirs, None, held_out))


def examples(**columns: Any) -> list[Example]:
    rows = zip(*columns.values(), strict=True)
    return [Example("", None, dict(zip(columns, row, strict=True))) for row in rows]


def noise(**columns: Any) -> list[tuple[Example, str]]:
    return list(zip(examples(noise=RNG.random(400), **columns), COINS, strict=True))


def told(
    auc: float | None,
    rival: float | None,
    held_out: list[str] | None = None,
    train: list[tuple[Example, str]] | None = None,
    suspect_auc: float = 0.999,
) -> Verdict:
    verdict = compared(auc, rival, COINS[:100] if held_out is None else held_out)
    train = noise() if train is None else train
    return doubt(verdict, train, model="is it right?", suspect_auc=suspect_auc)


def test_the_feature_and_what_to_do_are_named() -> None:
    verdict = told(1.0, 0.5, train=noise(refunded=[label == "fraud" for label in COINS]))
    assert not verdict.passed
    assert verdict.reason.startswith(PASSED.reason)
    assert "feature 'refunded' alone tells the labels apart (AUC 1.0000" in verdict.reason
    assert "headrace policy 'is it right?' suspect_auc=1" in verdict.reason
    assert verdict.metrics == PASSED.metrics


def test_what_no_feature_explains_is_turned_down_too() -> None:
    verdict = told(0.9995, 0.5)
    assert not verdict.passed
    assert "no feature alone explains it; the most telling is feature 'noise'" in verdict.reason
    bare = [(Example("a text"), label) for label in COINS]
    assert "no feature alone explains it. " in told(1.0, 0.5, train=bare).reason


@pytest.mark.parametrize(
    "verdict",
    [
        told(0.9989, 0.5),
        told(1.0, 0.9991),  # the champion is as good: somebody has allowed that
        told(1.0, 0.5, suspect_auc=1),
        told(0.97, 0.5, suspect_auc=0.98),
        told(1.0, 0.5, held_out=["ok"] * 91 + ["fraud"] * 9),  # by chance, perhaps
        told(None, None, held_out=["ok"] * 100),
    ],
)
def test_what_is_plausible_or_allowed_passes(verdict: Verdict) -> None:
    assert replace(verdict, newest=None) == PASSED


@pytest.mark.parametrize(("auc", "held_out"), [(1.0, ["ok"] * 98 + ["fraud"] * 2), (None, ["ok"])])
def test_few_labels_are_enough_where_a_feature_gives_them_away(
    auc: float | None, held_out: list[str]
) -> None:
    train = noise(code=[{"ok": "0", "fraud": "9"}[label] for label in COINS])
    assert "feature 'code' alone" in told(auc, 0.5, held_out, train).reason


def test_what_was_turned_down_stays_so() -> None:
    failed = replace(compared(1.0, 0.5, COINS), passed=False, reason="no better")
    assert doubt(failed, noise(), model="m", suspect_auc=0.999) == failed


LEAKS: dict[str, list[Any]] = {
    "a bool": [label == "fraud" for label in COINS],
    "a word": [f"closed as {label}" for label in COINS],
    "one of many words": [f"{label} {number % 7}" for number, label in enumerate(COINS)],
    "a number": [float(label == "fraud") for label in COINS],
    "a rising number": [(label == "ok") * 2 + RNG.random() for label in COINS],
    "a number in two places": [RNG.choice([-2, 2]) * (label == "ok") + RNG.random() / 2
                               for label in COINS],
    "there or not": [None if label == "ok" else RNG.random() for label in COINS],
    "of several types": [1 if label == "ok" else "1" for label in COINS],
    "too large": [10**400 if label == "ok" else 3 for label in COINS],
}  # fmt: skip


@pytest.mark.parametrize("kind", LEAKS)
def test_a_feature_that_gives_the_label_away_is_found(kind: str) -> None:
    found = most_telling(examples(noise=RNG.random(400), it=LEAKS[kind]), COINS)
    assert found is not None
    assert found.name == "feature 'it'"
    assert found.auc >= GIVES_AWAY


def test_the_segment_may_be_it_and_a_number_of_many_labels() -> None:
    of_many = RNG.choice(["a", "b", "c"], 300).tolist()
    segments = [Example("", f"of {label}", {"segment": RNG.random()}) for label in of_many]
    found = most_telling(segments, of_many)
    assert found is not None and found.name == "the segment" and found.auc == 1.0
    coded = most_telling(examples(code=["abc".index(label) for label in of_many]), of_many)
    assert coded is not None and coded.auc == 1.0


@pytest.mark.parametrize("labels", [COINS, ["ok", "fraud"] * 200, ["ok"] * 399 + ["fraud"]])
def test_chance_gives_nothing_away(labels: list[str]) -> None:
    columns: dict[str, list[Any]] = {
        "id": [f"id-{number}" for number in range(400)],
        "number": RNG.random(400).tolist(),
        "word": RNG.choice(["a", "b", "c"], 400).tolist(),
        "none": [None] * 400,
    }
    found = most_telling(examples(**columns), labels)
    assert found is not None and found.auc < 0.99
    assert most_telling([Example("text")] * 400, labels) is None

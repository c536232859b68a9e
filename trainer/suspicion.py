"""Suspicion: whether a candidate is too good to be true, and which feature gives the label away."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headrace.model.inputs import Example, Scalar
from headrace.trainer.compare import roc_auc
from headrace.trainer.gate import Verdict
from headrace.trainer.paired import Floats

GIVES_AWAY = 0.995  # AUC of one feature alone
# Held out examples without the commonest label; with fewer, a perfect score is often chance.
FEW = 10
# Limits of the search: the features that most examples carry, and the commonest labels.
MAX_FEATURES, MAX_LABELS = 256, 10
MAX_BINS, FOLDS = 64, 5


@dataclass(frozen=True, slots=True)
class Telling:
    """The feature that tells the labels apart best by itself; its AUC, the mean over labels."""

    name: str
    auc: float


def doubt(
    verdict: Verdict,
    train: Sequence[tuple[Example, str]],
    *,
    model: str,
    suspect_auc: float,
) -> Verdict:
    """Reject a classifier that passed and is implausibly better than its rival.

    That is one whose AUC on the newest examples (its accuracy, where all have one label) reaches
    `suspect_auc` while the rival's does not. With fewer than FEW labels to find, a feature of
    `train` must also give them away. A `suspect_auc` of 1 turns this off.
    """
    compared = verdict.newest
    if compared is None or not verdict.passed:
        return verdict
    both = (compared.candidate, compared.rival)
    measure = "accuracy" if any(side["auc"] is None for side in both) else "auc"
    ours, theirs = (side[measure] for side in both)
    if suspect_auc >= 1 or not theirs < suspect_auc <= ours:
        return verdict
    telling = most_telling(*zip(*train, strict=True))
    given_away = telling is not None and telling.auc >= GIVES_AWAY
    to_find = compared.n - max(Counter(compared.actual).values())
    if to_find < FEW and not given_away:
        return verdict
    if given_away and telling:
        because = (
            f"{telling.name} alone tells the labels apart (AUC {telling.auc:.4f} on the "
            f"{len(train)} examples trained on). If it is known only after the answer, leave it out"
        )
    else:
        best = f"; the most telling is {telling.name}, AUC {telling.auc:.4f}" if telling else ""
        because = (
            f"no feature alone explains it{best}. If something is known only after the answer, "
            "a text for instance, leave it out"
        )
    name = "AUC" if measure == "auc" else "accuracy"
    return replace(
        verdict,
        passed=False,
        reason=f"{verdict.reason} is too good to be true ({name} {ours:.4f}): {because}; "
        f"if it is right, allow it: headrace policy {shlex.quote(model)} suspect_auc=1",
    )


def most_telling(examples: Sequence[Example], labels: Sequence[str]) -> Telling | None:
    """The feature, or the segment, that alone tells the labels apart best; None without any."""
    carried = Counter(name for example in examples for name in example.features)
    columns: dict[str, list[Scalar]] = {
        f"feature {name!r}": [example.features.get(name) for example in examples]
        for name, _ in sorted(carried.items(), key=lambda one: (-one[1], one[0]))[:MAX_FEATURES]
    }
    if any(example.segment is not None for example in examples):
        columns["the segment"] = [example.segment for example in examples]
    commonest = [label for label, _ in Counter(labels).most_common(MAX_LABELS)]
    truth = np.array(labels)[:, None] == np.array(commonest)
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    found = [Telling(name, _auc(values, truth, fold)) for name, values in columns.items()]
    return max(found, key=lambda one: one.auc, default=None)


def _auc(values: Sequence[Scalar], truth: NDArray[np.bool_], fold: NDArray[np.int_]) -> float:
    """Mean AUC over the labels, each scored by the value's share of it or by the number's size."""
    numbers = np.array([_number(value) for value in values])
    shares = _shares(_codes(values, numbers), truth, fold)
    known = np.isfinite(numbers)
    sizes = np.where(known, numbers, np.median(numbers[known]) if known.any() else 0.0)
    areas = []
    for column, actual in enumerate(truth.T):
        by_share = roc_auc(shares[:, column], actual)
        by_size = roc_auc(sizes, actual)
        if by_share is not None and by_size is not None:
            areas.append(max(by_share, by_size, 1 - by_size))
    return float(np.mean(areas)) if areas else 0.5


def _number(value: Scalar) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.nan


def _codes(values: Sequence[Scalar], numbers: Floats) -> NDArray[np.intp]:
    """One code for each value; numbers with many values are binned by quantiles."""
    known = np.isfinite(numbers)
    bins = min(MAX_BINS, max(2, int(known.sum() ** 0.5)))
    if len(np.unique(numbers[known])) > bins:
        edges = np.quantile(numbers[known], np.linspace(0, 1, bins + 1)[1:-1])
        numbers = np.searchsorted(edges, numbers, side="right").astype(np.float64)
    keys = [
        f"number {number}" if is_number else repr(value)
        for value, number, is_number in zip(values, numbers.tolist(), known.tolist(), strict=True)
    ]
    return np.unique(keys, return_inverse=True)[1]


def _shares(codes: NDArray[np.intp], truth: NDArray[np.bool_], fold: NDArray[np.int_]) -> Floats:
    """Share of each label among rows of the same code in the other folds, (n, labels)."""
    shares = np.empty(truth.shape)
    for held in range(FOLDS):
        others, here = fold != held, fold == held
        counts = np.zeros((codes.max() + 1, truth.shape[1]))
        np.add.at(counts, codes[others], truth[others])
        rows = np.bincount(codes[others], minlength=len(counts))[:, None]
        usual = truth[others].mean(0)
        shares[here] = ((counts + usual) / (rows + 1))[codes[here]]
    return shares

"""The gate: whether a candidate may be published, measured and compared with its rival.

The metrics are written in NumPy. scikit-learn gives the same values (tests compare them), but takes
17 ms of CPU for what `evaluate` does in 0.6 ms on 300 examples, which adds up to 10 s for a holdout
of 300 segments and two versions, and 2.6 s for its import; `suspicion` takes thousands of AUCs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

HOLDOUT = "holdout"  # the newest examples, not trained on
OLD = "old"  # old examples: has anything been forgotten?
HIGHER_IS_BETTER = {
    "auc": True,
    "f1": True,
    "accuracy": True,
    "log_loss": False,
    "brier": False,
}
FLOOR = 1e-7  # of a probability, so that one confident mistake is not infinite


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """Quality on n examples. `auc` is None where only one label occurs."""

    n: int
    auc: float | None
    f1: float
    log_loss: float
    accuracy: float
    brier: float

    def to_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What a candidate must reach. Shares are relative: 0.01 is 1% of the champion's value.

    The default metric is the log loss: it uses the whole probability of every example, so it tells
    two versions apart on holdouts where AUC and F1 still move by chance.
    """

    metric: str = "log_loss"
    min_improvement: float = 0.005
    max_forgetting: float = 0.05
    max_slice_drop: float = 0.10
    min_slice: int = 50  # smaller slices decide nothing
    suspect_auc: float = 0.999  # from here on it is too good to be true; 1: never

    def __post_init__(self) -> None:
        if self.metric not in HIGHER_IS_BETTER:
            raise ValueError(
                f"metric must be one of {', '.join(HIGHER_IS_BETTER)}, got {self.metric!r}"
            )


@dataclass(frozen=True, slots=True)
class Verdict:
    passed: bool
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)


def evaluate(
    probabilities: Floats,
    actual: Sequence[str],
    labels: Sequence[str],
    positive: str | None = None,
) -> ModelMetrics:
    """Quality of `probabilities`, (n, labels), against the actual labels.

    With two labels AUC and F1 are those of `positive` (the last label where None); with more they
    are the mean over the labels that occur, each against the rest. A label that the model does not
    know has probability 0.

    Raises:
        ValueError: the shapes disagree, there is no example, or `positive` is not a label.
    """
    if not actual or np.shape(probabilities) != (len(actual), len(labels)):
        raise ValueError(
            f"probabilities must be ({len(actual)}, {len(labels)}) and not empty, "
            f"got {np.shape(probabilities)}"
        )
    if positive is not None and positive not in labels:
        raise ValueError(f"positive must be one of {', '.join(labels)}, got {positive!r}")
    p = np.asarray(probabilities, dtype=np.float64)
    every = [*labels, *sorted(set(actual) - set(labels))]
    p = np.pad(p, ((0, 0), (0, len(every) - len(labels))))
    truth = np.array([every.index(label) for label in actual])
    guess = p.argmax(1)

    if len(every) == 2:
        asked = [every.index(positive) if positive else 1]
    else:
        asked = sorted(set(truth.tolist()) | set(guess.tolist()))
    areas = [roc_auc(p[:, one], truth == one) for one in asked]
    known = [area for area in areas if area is not None]
    of_truth = p[np.arange(len(p)), truth]
    return ModelMetrics(
        n=len(p),
        auc=float(np.mean(known)) if known else None,
        f1=float(np.mean([_f1(guess == one, truth == one) for one in asked])),
        log_loss=float(-np.log(np.maximum(of_truth, FLOOR)).mean()),
        accuracy=float((guess == truth).mean()),
        brier=float(((p - np.eye(len(every))[truth]) ** 2).sum(1).mean()),
    )


def roc_auc(scores: Floats, positive: NDArray[np.bool_]) -> float | None:
    """Chance that a positive scores above a negative, ties counting half; None for one class."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2
    above = middle_rank[inverse][positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _f1(guessed: NDArray[np.bool_], actual: NDArray[np.bool_]) -> float:
    hits = int((guessed & actual).sum())
    wrong = int((guessed != actual).sum())
    return 2 * hits / (2 * hits + wrong) if hits else 0.0


def evaluate_slices(
    probabilities: Floats,
    actual: Sequence[str],
    segments: Sequence[str | None],
    labels: Sequence[str],
    positive: str | None = None,
) -> dict[str, ModelMetrics]:
    """Metrics by segment, named "segment 'eu'"; examples without one form "segment ''"."""
    names = np.array([segment or "" for segment in segments])
    truth = np.array(actual)
    return {
        f"segment {str(name)!r}": evaluate(
            probabilities[names == name], truth[names == name].tolist(), labels, positive
        )
        for name in np.unique(names)
    }


def prior(label_shares: Mapping[str, float], labels: Sequence[str], n: int) -> Floats:
    """The probabilities, (n, labels), of a model that only knows the training set's frequencies."""
    return np.tile([label_shares.get(label, 0.0) for label in labels], (n, 1))


def decide(
    candidate: Mapping[str, ModelMetrics],
    champion: Mapping[str, ModelMetrics] | None,
    policy: GatePolicy | None = None,
    *,
    against: str = "the champion",
) -> Verdict:
    """Compare two versions that were measured on the same examples.

    Both map a name to metrics: HOLDOUT (required), OLD (optional) and any segment slices. Without a
    champion pass the prior's metrics on HOLDOUT as `champion`, and `against="the prior"`; with None
    there is nothing to beat, and the candidate fails.

    Raises:
        ValueError: HOLDOUT is missing.
    """
    policy = policy or GatePolicy()
    for name, side in (("candidate", candidate), ("champion", champion)):
        if side is not None and HOLDOUT not in side:
            raise ValueError(f"{name} must have metrics for {HOLDOUT!r}, got {sorted(side)}")
    report: dict[str, Any] = {
        "candidate": {name: one.to_dict() for name, one in candidate.items()},
        "champion": {name: one.to_dict() for name, one in (champion or {}).items()},
        "policy": asdict(policy),
    }
    if champion is None:
        return Verdict(False, "nothing to compare with: neither a champion nor the prior", report)

    shown = f"{policy.metric} on the {candidate[HOLDOUT].n} newest examples"
    gain = _gain(candidate[HOLDOUT], champion[HOLDOUT], policy.metric)
    if gain is None:
        return Verdict(False, f"{shown} cannot be measured: only one label occurs", report)
    report["improvement"] = gain
    values = _values(candidate[HOLDOUT], champion[HOLDOUT], policy.metric)
    better = f"{shown} {values} ({gain:+.1%} against {against})"
    if gain < policy.min_improvement:
        return Verdict(False, f"{better}: less than the {policy.min_improvement:.1%} asked", report)

    for name in candidate:
        if name == HOLDOUT or name not in champion:
            continue
        allowed = policy.max_forgetting if name == OLD else policy.max_slice_drop
        change = _gain(candidate[name], champion[name], policy.metric)
        too_small = name != OLD and candidate[name].n < policy.min_slice
        if change is None or too_small or change >= -allowed:
            continue
        what = "the old examples" if name == OLD else name
        values = _values(candidate[name], champion[name], policy.metric)
        return Verdict(
            False,
            f"{better}, but on {what} (n={candidate[name].n}) {policy.metric} {values} is "
            f"{-change:.1%} worse: more than the {allowed:.1%} allowed",
            report,
        )
    return Verdict(True, better, report)


def _gain(candidate: ModelMetrics, champion: ModelMetrics, metric: str) -> float | None:
    """Improvement as a share of the champion's value; negative where worse."""
    ours, theirs = getattr(candidate, metric), getattr(champion, metric)
    if ours is None or theirs is None:
        return None
    difference = ours - theirs if HIGHER_IS_BETTER[metric] else theirs - ours
    return float(difference / max(abs(theirs), FLOOR))


def _values(candidate: ModelMetrics, champion: ModelMetrics, metric: str) -> str:
    return f"{getattr(candidate, metric):.4f} from {getattr(champion, metric):.4f}"

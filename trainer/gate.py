"""The gate: whether a candidate may be published, measured and compared with its rival.

The metrics are written in NumPy. scikit-learn gives the same values (tests compare them), but takes
17 ms of CPU for what `evaluate` does in 0.6 ms on 300 examples, which adds up to 10 s for a holdout
of 300 segments and two versions, and 2.6 s for its import; `suspicion` takes thousands of AUCs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.trainer.paired import ALPHA, FLOOR, Flags, Floats, Gain, metric_parts, middle_ranks

HOLDOUT = "holdout"  # the newest examples, not trained on
OLD = "old"  # old examples: has anything been forgotten?
HIGHER_IS_BETTER = {
    "auc": True,
    "f1": True,
    "accuracy": True,
    "log_loss": False,
    "brier": False,
}
MAX_NAMED = 20  # labels in a report


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

    Attributes:
        min_improvement: asked of the measured gain, which must also be more than chance. Below 0
            it is what a candidate may be worse: its whole interval must lie above.
        max_forgetting: a loss on the old examples beyond this rejects where it is more than chance.
        max_slice_drop: the same in one segment of the newest examples.
        min_slice: smaller slices decide nothing.
        suspect_auc: from here on it is too good to be true; 1: never.
    """

    metric: str = "log_loss"
    min_improvement: float = 0.005
    max_forgetting: float = 0.05
    max_slice_drop: float = 0.10
    min_slice: int = 50
    suspect_auc: float = 0.999

    def __post_init__(self) -> None:
        if self.metric not in HIGHER_IS_BETTER:
            raise ValueError(
                f"metric must be one of {', '.join(HIGHER_IS_BETTER)}, got {self.metric!r}"
            )


@dataclass(frozen=True, slots=True)
class Answers:
    """What a version says of some examples: probabilities, (n, labels)."""

    labels: Sequence[str]
    probabilities: Floats

    def over(self, labels: Sequence[str]) -> Floats:
        """The probabilities of these labels; a label that the version does not know has 0."""
        every = np.pad(self.probabilities, ((0, 0), (0, 1)))
        return every[:, [self._column(label) for label in labels]]

    def _column(self, label: str) -> int:
        return self.labels.index(label) if label in self.labels else -1


@dataclass(frozen=True, slots=True)
class Judged:
    """Labelled examples, and what both versions say of them."""

    actual: Sequence[str]
    candidate: Answers
    rival: Answers
    segments: Sequence[str | None] = ()  # none: they are not compared by segment

    def where(self, kept: Flags) -> Judged:
        return Judged(
            list(compress(self.actual, kept)),
            Answers(self.candidate.labels, self.candidate.probabilities[kept]),
            Answers(self.rival.labels, self.rival.probabilities[kept]),
            list(compress(self.segments, kept)),
        )

    def known(self) -> Flags:
        """Which examples have a label that both versions know."""
        both = set(self.candidate.labels) & set(self.rival.labels)
        return np.array([label in both for label in self.actual], dtype=bool)

    def slices(self, fewest: int) -> dict[str, Judged]:
        """The segments of `fewest` examples or more; those without one form "segment ''"."""
        names = np.array([segment or "" for segment in self.segments])
        return {
            f"segment {str(name)!r}": self.where(names == name)
            for name, count in zip(*np.unique(names, return_counts=True), strict=True)
            if count >= fewest
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions on the same examples; `gain` is None where it cannot be measured."""

    actual: Sequence[str]
    candidate: ModelMetrics
    rival: ModelMetrics
    gain: Gain | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`newest` is what was compared on the newest examples; None where nothing could be."""

    passed: bool
    reason: str
    metrics: dict[str, Any] = field(default_factory=dict)
    newest: Comparison | None = None


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
        ValueError: the shapes disagree, there is no example, a probability is not finite, or
            `positive` is not a label.
    """
    if not actual or np.shape(probabilities) != (len(actual), len(labels)):
        raise ValueError(
            f"probabilities must be ({len(actual)}, {len(labels)}) and not empty, "
            f"got {np.shape(probabilities)}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite, got NaN or infinity")
    if positive is not None and positive not in labels:
        raise ValueError(f"positive must be one of {', '.join(labels)}, got {positive!r}")
    p = np.asarray(probabilities, dtype=np.float64)
    every = [*labels, *sorted(set(actual) - set(labels))]
    p = np.pad(p, ((0, 0), (0, len(every) - len(labels))))
    truth = np.array([every.index(label) for label in actual])
    guess = p.argmax(1)
    asked = _asked(truth, guess, every, positive)
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


def _asked(
    truth: NDArray[np.intp], guess: NDArray[np.intp], labels: Sequence[str], positive: str | None
) -> list[int]:
    """The columns of the labels that AUC and F1 are about."""
    if len(labels) == 2:
        return [labels.index(positive) if positive else 1]
    return sorted(set(truth.tolist()) | set(guess.tolist()))


def roc_auc(scores: Floats, positive: Flags) -> float | None:
    """Chance that a positive scores above a negative, ties counting half; None for one class."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    above = middle_ranks(scores)[positive].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def _f1(guessed: Flags, actual: Flags) -> float:
    hits = int((guessed & actual).sum())
    wrong = int((guessed != actual).sum())
    return 2 * hits / (2 * hits + wrong) if hits else 0.0


def prior(label_shares: Mapping[str, float], labels: Sequence[str], n: int) -> Floats:
    """The probabilities, (n, labels), of a model that only knows the training set's frequencies."""
    return np.tile([label_shares.get(label, 0.0) for label in labels], (n, 1))


def compare(judged: Judged, metric: str, positive: str | None = None) -> Comparison:
    """Measure both versions, and how much better the candidate is by `metric`.

    Raises:
        ValueError: there is no example, or a probability is not finite.
    """
    labels = list(dict.fromkeys([*judged.candidate.labels, *judged.rival.labels]))
    positive = positive if positive in labels else None
    sides = [judged.candidate.over(labels), judged.rival.over(labels)]
    ours, theirs = (evaluate(p, judged.actual, labels, positive) for p in sides)
    truth = np.array([labels.index(label) for label in judged.actual])
    parts = [
        metric_parts(metric, p, truth, _asked(truth, p.argmax(1), labels, positive)) for p in sides
    ]
    gain = None
    if parts[0] is not None and parts[1] is not None:
        sign = 1 if HIGHER_IS_BETTER[metric] else -1
        gain = Gain.of(sign * (parts[0] - parts[1]), float(parts[1].mean()))
    return Comparison(judged.actual, ours, theirs, gain)


def decide(
    newest: Judged,
    old: Judged | None = None,
    policy: GatePolicy | None = None,
    *,
    positive: str | None = None,
    against: str = "the champion",
    seen: Flags | None = None,
) -> Verdict:
    """Whether the candidate may take the rival's place, by the newest examples.

    It must gain `min_improvement` or more, and more than chance gives a version that is as good
    (ALPHA). On the old examples and in segments it may lose what the policy allows, or what is no
    more than chance, ALPHA being divided by the number of these slices (Bonferroni). Examples whose
    label one side does not know are left out of all this, and so are those that the rival has
    `seen` in its training.

    Raises:
        ValueError: a probability is not finite.
    """
    policy = policy or GatePolicy()
    fresh = np.ones(len(newest.actual), dtype=bool) if seen is None else ~seen
    known = newest.known()
    unknown = Counter(
        label for label, strange in zip(newest.actual, ~known & fresh, strict=True) if strange
    )
    left_out = {
        "seen": int((~fresh).sum()),
        "unknown": unknown.total(),
        "unknown_labels": dict(unknown.most_common(MAX_NAMED)),
    }
    report: dict[str, Any] = {
        "against": against,
        "alpha": ALPHA,
        "left_out": left_out,
        "policy": asdict(policy),
    }
    note = _left_out(left_out, against)
    compared = newest.where(known & fresh)
    if not compared.actual:
        return Verdict(False, f"no newest example to compare on{note}", report)

    parts = {HOLDOUT: compared, **compared.slices(policy.min_slice)}
    if old is not None and old.known().any():
        parts[OLD] = old.where(old.known())
    found = {name: compare(part, policy.metric, positive) for name, part in parts.items()}
    report["candidate"] = {name: one.candidate.to_dict() for name, one in found.items()}
    report["champion"] = {name: one.rival.to_dict() for name, one in found.items()}
    holdout = found.pop(HOLDOUT)
    shown = f"{policy.metric} on the {holdout.candidate.n:,} newest examples"
    gain = holdout.gain
    if gain is None:
        what = "there are too few" if holdout.candidate.n < 2 else "a label occurs less than twice"
        reason = f"{shown} cannot be measured: {what}{note}"
        return Verdict(False, reason, report, holdout)
    low = gain.at_least()
    report |= {"improvement": gain.value, "at_least": low, "spread": gain.spread}
    values = _values(holdout, policy.metric)
    better = f"{shown} {values} ({gain.value:+.1%}, at least {low:+.1%}, against {against}){note}"
    if gain.value < policy.min_improvement:
        reason = f"{better}: less than the {policy.min_improvement:.1%} asked"
        return Verdict(False, reason, report, holdout)
    if low <= min(policy.min_improvement, 0):
        return Verdict(False, f"{better}: this may be chance", report, holdout)
    worse = _worse_slice(found, policy)
    if worse:
        return Verdict(False, f"{better}, but {worse}", report, holdout)
    return Verdict(True, better, report, holdout)


def _worse_slice(found: Mapping[str, Comparison], policy: GatePolicy) -> str | None:
    """What is said of the first slice that lost too much; None where there is none."""
    slices = {name: (one, one.gain) for name, one in found.items() if one.gain is not None}
    for name, (one, gain) in slices.items():
        allowed = policy.max_forgetting if name == OLD else policy.max_slice_drop
        if gain.value < -allowed and gain.chance() < ALPHA / len(slices):
            what = "the old examples" if name == OLD else name
            return (
                f"on {what} (n={gain.n:,}) {policy.metric} {_values(one, policy.metric)} is "
                f"{-gain.value:.1%} worse: more than the {allowed:.1%} allowed, and than chance"
            )
    return None


def _left_out(left_out: Mapping[str, Any], against: str) -> str:
    said = []
    if left_out["unknown"]:
        names = ", ".join(map(repr, list(left_out["unknown_labels"])[:3]))
        more = ", …" if len(left_out["unknown_labels"]) > 3 else ""
        said.append(
            f"{left_out['unknown']:,} with labels that one side does not know ({names}{more})"
        )
    if left_out["seen"]:
        said.append(f"{left_out['seen']:,} of the time that {against} was trained on")
    return f", without {' and '.join(said)}" if said else ""


def _values(compared: Comparison, metric: str) -> str:
    ours, theirs = getattr(compared.candidate, metric), getattr(compared.rival, metric)
    return f"{ours:.4f} from {theirs:.4f}"

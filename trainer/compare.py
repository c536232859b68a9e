"""Two versions on the same examples: what each is worth, and how much better one is.

The metrics of classes are written in NumPy. scikit-learn gives the same values (tests compare
them), but takes 17 ms of CPU for what `evaluate` does in 0.6 ms on 300 examples, which adds up to
10 s for a holdout of 300 segments and two versions, and 2.6 s for its import; `suspicion` takes
thousands of AUCs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import compress
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from headrace.model.recipe import Task
from headrace.trainer.paired import FLOOR, Flags, Floats, Gain, metric_parts, middle_ranks

# What versions can be compared by; the first is taken where the policy names none of them.
METRICS: Mapping[Task, tuple[str, ...]] = {
    "classification": ("log_loss", "auc", "f1", "accuracy", "brier"),
    "regression": ("mae", "mse"),
    "ranking": ("log_loss", "ndcg"),
    "preference": ("log_loss", "accuracy"),
    "generation": ("log_loss",),
}
HIGHER_IS_BETTER = {
    "auc": True,
    "f1": True,
    "accuracy": True,
    "log_loss": False,
    "brier": False,
    "mae": False,
    "mse": False,
    "ndcg": True,
}


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
class Comparison:
    """Two versions on the same n examples; `gain` is None where it cannot be measured.

    Attributes:
        candidate, rival: the value of each metric, and n.
        actual: the classes, of a classification.
    """

    candidate: Mapping[str, Any]
    rival: Mapping[str, Any]
    gain: Gain | None
    actual: Sequence[str] = ()

    @property
    def n(self) -> int:
        return int(self.candidate["n"])


@dataclass(frozen=True, slots=True)
class Judged:
    """Examples with a class, and what both versions say of them."""

    actual: Sequence[str]
    candidate: Answers
    rival: Answers
    segments: Sequence[str | None] = ()  # none: they are not compared by segment
    unit: ClassVar[str] = "example"

    def __len__(self) -> int:
        return len(self.actual)

    def where(self, kept: Flags) -> Judged:
        return Judged(
            list(compress(self.actual, kept)),
            Answers(self.candidate.labels, self.candidate.probabilities[kept]),
            Answers(self.rival.labels, self.rival.probabilities[kept]),
            list(compress(self.segments, kept)),
        )

    def known(self) -> Flags:
        """Which examples have a label that both versions know, and an answer of both."""
        both = set(self.candidate.labels) & set(self.rival.labels)
        named = np.array([label in both for label in self.actual], dtype=bool)
        return named & ~np.isnan(self.rival.probabilities).any(1)

    def unknown(self, asked: Flags) -> list[str]:
        """The labels of the others that are asked for."""
        return list(compress(self.actual, ~self.known() & asked))

    def alone(self, positive: str | None = None) -> Mapping[str, Any]:
        """The metrics of the candidate, also on labels that only it knows, or does not."""
        answers = self.candidate
        return evaluate(answers.probabilities, self.actual, answers.labels, positive).to_dict()

    def compare(self, metric: str, positive: str | None = None) -> Comparison:
        """Measure both versions, and how much better the candidate is by `metric`.

        Raises:
            ValueError: there is no example, or a probability is not finite.
        """
        labels = list(dict.fromkeys([*self.candidate.labels, *self.rival.labels]))
        positive = positive if positive in labels else None
        sides = [self.candidate.over(labels), self.rival.over(labels)]
        ours, theirs = (evaluate(p, self.actual, labels, positive) for p in sides)
        truth = np.array([labels.index(label) for label in self.actual])
        parts = [
            metric_parts(metric, p, truth, _asked(truth, p.argmax(1), labels, positive))
            for p in sides
        ]
        return Comparison(ours.to_dict(), theirs.to_dict(), _gain(metric, *parts), self.actual)


@dataclass(frozen=True, slots=True)
class Measured:
    """Examples of any other task, or requests of a ranking, and how well both versions did on each.

    Attributes:
        candidate, rival: by metric, whose value is the mean, (n,); NaN where there is no answer.
        weights: what each counts in a metric's mean, (n,); of a metric without them alike.
        unit: what is compared.
    """

    candidate: Mapping[str, Floats]
    rival: Mapping[str, Floats]
    segments: Sequence[str | None] = ()
    weights: Mapping[str, Floats] = field(default_factory=dict)
    unit: str = "example"

    def __len__(self) -> int:
        return len(next(iter(self.candidate.values())))

    def where(self, kept: Flags) -> Measured:
        return Measured(
            {metric: parts[kept] for metric, parts in self.candidate.items()},
            {metric: parts[kept] for metric, parts in self.rival.items()},
            list(compress(self.segments, kept)),
            {metric: weights[kept] for metric, weights in self.weights.items()},
            self.unit,
        )

    def known(self) -> Flags:
        """Which examples the rival has an answer to."""
        known: Flags = ~np.isnan(np.array([*self.rival.values()])).any(0)
        return known

    def unknown(self, asked: Flags) -> list[str]:
        """For each of the others that is asked for, why."""
        return ["no answer"] * int((~self.known() & asked).sum())

    def alone(self, positive: str | None = None) -> Mapping[str, Any]:  # noqa: ARG002
        """The metrics of the candidate."""
        return self._values(self.candidate)

    def compare(self, metric: str, positive: str | None = None) -> Comparison:  # noqa: ARG002
        """Measure both versions, and how much better the candidate is by `metric`."""
        ours, theirs = (
            self._weighted(metric, side[metric]) for side in (self.candidate, self.rival)
        )
        gain = _gain(metric, ours, theirs)
        return Comparison(self._values(self.candidate), self._values(self.rival), gain)

    def _values(self, side: Mapping[str, Floats]) -> dict[str, Any]:
        means = {name: _mean(self._weighted(name, parts)) for name, parts in side.items()}
        return {"n": len(self), **means}

    def _weighted(self, metric: str, parts: Floats) -> Floats | None:
        """The parts whose plain mean is the weighted one; None where nothing counts."""
        weights = self.weights.get(metric, np.ones(len(parts)))
        return parts * weights / weights.mean() if weights.any() else None


def _mean(parts: Floats | None) -> float | None:
    return None if parts is None else float(parts.mean())


def _gain(metric: str, ours: Floats | None, theirs: Floats | None) -> Gain | None:
    if ours is None or theirs is None:
        return None
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    return Gain.of(sign * (ours - theirs), float(theirs.mean()))


Pairs = Judged | Measured


def slices(pairs: Pairs, fewest: int) -> dict[str, Pairs]:
    """The segments of `fewest` examples or more; those without one form "segment ''"."""
    names = np.array([segment or "" for segment in pairs.segments])
    return {
        f"segment {str(name)!r}": pairs.where(names == name)
        for name, count in zip(*np.unique(names, return_counts=True), strict=True)
        if count >= fewest
    }


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

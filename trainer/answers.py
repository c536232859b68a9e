"""What two versions answer to held out examples, as the gate compares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from headrace.errors import ModelError
from headrace.events.labels import class_of
from headrace.model.artifact import family
from headrace.model.examination import UNKNOWN, Examination
from headrace.model.examples import LabeledExample, Logged
from headrace.model.recipe import ANSWER, Predictor, Task, Writer
from headrace.trainer.clicked import Requests, first_rows
from headrace.trainer.compare import Answers, Judged, Measured, prior
from headrace.trainer.paired import Floats


def of_classes(version: Predictor, rows: Sequence[LabeledExample]) -> Answers:
    """What a version says of the classes; an old one may have two labels of one class."""
    classes = list(dict.fromkeys(map(class_of, version.labels)))
    probabilities = version.predict([row.example for row in rows])
    names = np.array([[class_of(label) == one for one in classes] for label in version.labels])
    return Answers(classes, probabilities @ names.astype(probabilities.dtype))


def judged_classes(
    rows: Sequence[LabeledExample],
    ours: Predictor,
    rival: Predictor | Callable[[Sequence[LabeledExample]], Answers],
    *,
    by_segment: bool = True,
) -> Judged:
    """Both versions' probabilities of each class; what is no number of a rival is no answer.

    Raises:
        ModelError: a probability of `ours` is not finite.
    """
    answers = of_classes(ours, rows)
    if not np.isfinite(answers.probabilities).all():
        raise ModelError("the candidate's probabilities are not finite (NaN): it is not compared")
    if callable(rival):
        other = rival(rows)
    else:
        other = of_classes(rival, rows)
        known = np.nan_to_num(other.probabilities, nan=0.0, posinf=0.0, neginf=0.0)
        other = Answers(other.labels, known)
    segments = [row.example.segment for row in rows] if by_segment else []
    return Judged([class_of(row.label) for row in rows], answers, other, segments)


def prior_of(train: Sequence[LabeledExample]) -> Callable[[Sequence[LabeledExample]], Answers]:
    """A rival that only knows how frequent each class was in training."""
    classes = [class_of(row.label) for row in train]
    shares = {one: classes.count(one) / len(classes) for one in sorted(set(classes))}
    return lambda rows: Answers([*shares], prior(shares, [*shares], len(rows)))


def logged_classes(
    version: str, positive: str | None
) -> Callable[[Sequence[LabeledExample]], Answers]:
    """A rival that answers what was logged of `version` and its steps; NaN for other answers.

    Without probabilities the score is that of the positive class, and without a score the
    predicted class is certain.
    """

    def answers(rows: Sequence[LabeledExample]) -> Answers:
        said = [_said(row.logged, version, positive) for row in rows]
        seen = {name for one in said if one for name in one}
        labels = sorted(seen | {class_of(row.label) for row in rows})
        out = np.full((len(rows), len(labels)), np.nan)
        for row, one in enumerate(said):
            if one:
                # A class that was not scored has what the others leave.
                rest = max(0.0, 1.0 - sum(one.values())) / max(1, len(labels) - len(one))
                out[row] = [one.get(label, rest) for label in labels]
        return Answers(labels, out)

    return answers


def _said(logged: Logged | None, version: str, positive: str | None) -> dict[str, float]:
    if logged is None or family(logged.model_version) != version:
        return {}
    if logged.probabilities:
        total = sum(logged.probabilities.values())
        if total > 0:
            return {class_of(name): p / total for name, p in logged.probabilities.items()}
    if logged.score is not None and positive is not None and 0 <= logged.score <= 1:
        return {positive: logged.score}
    return {class_of(logged.prediction): 1.0} if logged.prediction else {}


def measured(
    task: Task,
    rows: Sequence[LabeledExample],
    ours: Predictor,
    rival: Predictor | float | str,
    *,
    by_segment: bool = True,
    examination: Examination = UNKNOWN,
) -> Measured:
    """How well both versions do on each example of any other task, or each request of a ranking.

    `rival` may be a number, which is the answer to everything, or the name of a version whose
    answers were logged. `examination` is of the positions of a ranking.

    Raises:
        ModelError: an answer of `ours` is not finite.
    """
    requests = Requests(rows, examination) if task == "ranking" else None

    def parts_of(version: Predictor | float | str) -> Mapping[str, Floats]:
        return (
            requests.parts(_values(task, version, rows))
            if requests
            else _parts(task, rows, version)
        )

    mine = parts_of(ours)
    if not all(np.isfinite(parts).all() for parts in mine.values()):
        raise ModelError("the candidate's answers are not finite (NaN): it is not compared")
    units = first_rows(rows) if requests else rows
    segments = [row.example.segment for row in units] if by_segment else []
    weights = requests.weights if requests else {}
    unit = "request" if requests else "example"
    return Measured(mine, parts_of(rival), segments, weights, unit)


def _parts(
    task: Task, rows: Sequence[LabeledExample], version: Predictor | float | str
) -> dict[str, Floats]:
    if task == "generation":
        writer = cast(Writer, version)
        losses = writer.log_losses([row.example for row in rows], [row.label for row in rows])
        return {"log_loss": losses}
    if task == "preference":
        margin = _rewards(version, rows, "label") - _rewards(version, rows, "rejected")
        loss, right = np.logaddexp(0, -margin), (np.sign(margin) + 1) / 2
        return {"log_loss": loss, "accuracy": np.where(np.isnan(margin), np.nan, right)}
    actual = np.array([float(row.label) for row in rows])
    said = _values(task, version, rows)
    return {"mae": np.abs(actual - said), "mse": (actual - said) ** 2}


def _values(task: Task, version: Predictor | float | str, rows: Sequence[LabeledExample]) -> Floats:
    if isinstance(version, float):
        return np.full(len(rows), version)
    if isinstance(version, str):
        return np.array([_value(task, row.logged, version) for row in rows])
    return np.asarray(version.predict([row.example for row in rows]), dtype=np.float64)


def _value(task: Task, logged: Logged | None, version: str) -> float:
    """The number that a version predicted, or the score that it ranked by."""
    if logged is None or family(logged.model_version) != version:
        return np.nan
    if task == "ranking" or logged.prediction is None:
        return np.nan if logged.score is None else logged.score
    try:
        return float(logged.prediction)
    except ValueError:
        return np.nan


def _rewards(
    version: Predictor | float | str, rows: Sequence[LabeledExample], field: str
) -> Floats:
    if isinstance(version, float):
        return np.full(len(rows), version)
    asked = [
        replace(row.example, features={**row.example.features, ANSWER: getattr(row, field)})
        for row in rows
    ]
    return np.asarray(cast(Predictor, version).predict(asked), dtype=np.float64)

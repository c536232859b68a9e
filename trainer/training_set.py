"""What a recipe is given: rows drawn and weighed, with their classes written in one way."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from headrace.errors import NothingToLearnError, SettingError
from headrace.events.labels import class_of, spellings
from headrace.model.examples import LabeledExample
from headrace.model.recipe import Predictor, Task, TrainingExample, TrainingSet
from headrace.model.sampling import Sampled, sample
from headrace.trainer.brief import Brief

MAX_LABELS = 200


def training_set(
    brief: Brief, rows: Sequence[LabeledExample], parent: Predictor | None
) -> tuple[Sampled, TrainingSet]:
    """Return the rows to train on, how much each counts, and both as a recipe takes them.

    The run's id is the seed.

    Raises:
        SettingError: what has no classes is to be balanced.
        NothingToLearnError: too few classes, or too many.
    """
    sampling, task = brief.declared.sampling, brief.task
    for key in ("by", "weights"):
        if getattr(sampling, key) == "balance" and task != "classification":
            raise SettingError(f"sampling.{key}: balance needs classes, the task is {task}")
    score = parent.predict if parent and task == "classification" else None
    sampled = sample(rows, sampling, zlib.crc32(brief.claim.run_id.encode()), score)
    return sampled, _given(brief.claim.model, task, sampled)


def _given(model: str, task: Task, sampled: Sampled) -> TrainingSet:
    rows = sampled.rows
    written = {row.label: row.label for row in rows}
    labels: tuple[str, ...] = ()
    if task == "classification":
        classes = spellings(row.label for row in rows)
        if not 2 <= len(classes) <= MAX_LABELS:
            raise NothingToLearnError(
                f"a classifier needs 2 to {MAX_LABELS} labels: "
                f"got {len(classes)} in {len(rows)} examples to train on"
            )
        written = {label: classes[class_of(label)] for label in written}
        labels = tuple(sorted(classes.values()))
    elif not rows:
        raise NothingToLearnError("there is no example to train on")
    examples = [
        TrainingExample(
            row.example,
            written[row.label],
            weight=weight,
            request_id=row.request_id,
            position=row.position,
            propensity=row.propensity,
            rejected=row.rejected,
        )
        for row, weight in zip(rows, sampled.weights.tolist(), strict=True)
    ]
    return TrainingSet(model, task, examples, labels)

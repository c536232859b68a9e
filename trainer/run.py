"""A run: recipe, gate and suspicion turn a brief into an outcome. No engine is asked."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headrace.control.claims import Claim
from headrace.declared import Declared, chosen
from headrace.errors import SettingError, one_line
from headrace.events.labels import class_of
from headrace.model.artifact import Manifest, artifact_path, as_judged, keep_as_judged
from headrace.model.examination import UNKNOWN, Examination
from headrace.model.examples import LabeledExample
from headrace.model.given import given
from headrace.model.inputs import Example, Id
from headrace.model.prior import corrected
from headrace.model.recipe import Predictor, Recipe, Task
from headrace.model.sampling import Sampled
from headrace.trainer import gate
from headrace.trainer.brief import Brief, Lookups
from headrace.trainer.clicked import first_rows
from headrace.trainer.compare import METRICS
from headrace.trainer.dataset import Dataset
from headrace.trainer.paired import examples_needed
from headrace.trainer.progress import Keep, RunProgress, Say
from headrace.trainer.recipes import load
from headrace.trainer.rivals import incumbent_of, rival_of
from headrace.trainer.suspicion import doubt
from headrace.trainer.training_set import training_set

log = logging.getLogger(__name__)

# What is published with a version, so that the views see when it gets worse.
BASELINES: Mapping[Task, tuple[str, ...]] = {
    "classification": ("auc", "accuracy"),
    "regression": ("mae",),
    "ranking": ("log_loss",),
    "preference": ("accuracy",),
    "generation": ("log_loss",),
}
USUAL_SPREAD = 0.5  # of the gain of a version over the one before it, where none was measured


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained version in its folder, and how it and its rival did on the newest examples."""

    folder: Path
    manifest: Manifest
    holdout: Mapping[str, Any]
    rival: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to, as `publish` writes it.

    Attributes:
        model_version: None for a candidate, which is named when it is published.
        metrics: of the event; empty where the run failed.
        dataset: None where the run failed before it had one.
        candidate: None where the run failed, or there was nothing to compare on.
        rolls_out: of a promoted one, whether the conductor brings it into service, in steps.
    """

    promoted: bool
    reason: str
    model_version: str | None = None
    parent: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    dataset: Dataset | None = None
    candidate: Candidate | None = None
    rolls_out: bool = False


def failed(claim: Claim, error: Exception, dataset: Dataset | None = None) -> Outcome:
    """The outcome of a run that ended in an error."""
    said = f"{type(error).__name__}: {error}".replace("\0", "")[:2_000]
    reason = said.encode(errors="backslashreplace").decode()  # lone surrogates
    name = f"failed-{claim.run_id}"
    return Outcome(promoted=False, reason=reason, model_version=name, dataset=dataset)


def train(brief: Brief, folder: Path, say: Say, keep: Keep = lambda _: None) -> Outcome:
    """Train a candidate into the empty `folder` and judge it; progress goes to `say` and `keep`.

    Where the recipe can, a candidate that passed also learns the examples that it was judged on.

    Raises:
        NothingToLearnError: too few labels, or all the same.
        SettingError: the model's declaration is not allowed.
        ModelError: the candidate's answers are no numbers.
    """
    dataset, marks, task = brief.dataset, brief.marks, brief.task
    champion = _load_champion(brief)
    train_to = champion.train_to if champion else None
    usable = replace(dataset, rows=[_with_ids(row) for row in dataset.rows])
    if task in ("regression", "ranking"):
        usable = replace(usable, rows=[row for row in usable.rows if _is_number(row.label)])
    rows, newest, old = usable.split(examples_needed(brief.spread or USUAL_SPREAD), train_to)
    say(f"{len(rows):,} examples to train on, {len(newest):,} newest and {len(old):,} old held out")
    progress = RunProgress(say, keep)

    name, recipe, config = _recipe(brief.declared, task, rows)
    features, ids = brief.declared.features, brief.declared.ids
    if ids is None:
        ids = getattr(recipe, "IDS", ())
    lookups = brief.lookups
    rows = [_as_given(row, features, ids, lookups) for row in rows]
    predictor = champion.predictor if champion else None
    sampled, training = training_set(brief, rows, predictor)
    parent = champion.folder if champion and champion.made_by == (name, task) else None
    progress.stage("fit", len(training.examples))
    made = recipe.fit(training, parent, config, progress, folder)
    report = {**made, "sampling": sampled.report}
    ours = given(recipe.load(folder), task, features, ids)
    shift = _shift(sampled, ours)
    ours = corrected(ours, shift)
    marks = marks.reached("trained_at")
    progress.stage("gate", len(newest))

    positive = positive_of(brief.positive_label, ours.labels, rows)
    metric = brief.gate.metric if brief.gate.metric in METRICS[task] else METRICS[task][0]
    scored = positive and class_of(positive)
    examination = Examination.of(rows) if task == "ranking" else UNKNOWN
    rival = rival_of(
        task,
        (champion.name, champion.predictor) if champion else None,
        incumbent_of(newest),
        rows,
        newest,
        scored,
        None if champion else _untrained(recipe, config),
        examination,
    )
    asked = first_rows(newest) if task == "ranking" else newest
    pairs = rival.pairs(ours, newest)
    verdict = gate.decide(
        pairs,
        rival.pairs(ours, old) if old and rival.is_champion else None,
        replace(brief.gate, metric=metric if rival.has_scores else "accuracy"),
        positive=scored,
        against=rival.name,
        seen=np.array([row.event_time <= train_to for row in asked])
        if train_to and rival.is_champion
        else None,
    )
    candidate = None
    if (compared := verdict.newest) is not None:
        manifest = Manifest(
            recipe=name,
            task=task,
            labels=ours.labels,
            positive_label=positive,
            features=features,
            ids=ids,
            feature_service=lookups.service,
            looked_up=_looked_up(lookups, features),
            corrections=champion.corrections if champion else {},
            shift=shift,
            report=report,
        )
        candidate = Candidate(folder, manifest, compared.candidate, compared.rival)
        if task == "classification":
            verdict = doubt(
                verdict,
                [(row.example, class_of(row.label)) for row in rows],
                model=brief.claim.model,
                suspect_auc=brief.gate.suspect_auc,
            )
    alone = pairs.alone(scored)
    marks = marks.reached("gated_at")
    complete = getattr(recipe, "complete", None)
    if verdict.passed and candidate is not None and complete is not None:
        progress.stage("complete", len(newest))
        known = set(map(class_of, ours.labels))
        learned = [
            _as_given(row, features, ids, lookups) for row in newest if class_of(row.label) in known
        ]
        learned_to = sampled.rows[-1].event_time.timestamp()
        judged = msgspec.structs.replace(candidate.manifest, learned_to=learned_to)
        keep_as_judged(folder, judged)
        sampled, training = training_set(brief, [*rows, *learned], predictor)
        report |= {**complete(training, config, folder), "sampling": sampled.report}
        manifest = msgspec.structs.replace(
            candidate.manifest, shift=_shift(sampled, ours), report=report
        )
        candidate = replace(candidate, manifest=manifest)

    return Outcome(
        promoted=verdict.passed,
        reason=verdict.reason,
        parent=brief.champion.model_version if brief.champion else None,
        metrics={
            **marks.metrics(),
            "recipe": name,
            "task": task,
            "positive_label": positive,
            **{f"baseline_{metric}": alone.get(metric) for metric in BASELINES[task]},
            "baseline_rows": len(newest),
            "examples": len(dataset.rows),
            "dataset_sha256": dataset.sha256,
            "train_from": sampled.rows[0].event_time.timestamp(),
            "train_to": sampled.rows[-1].event_time.timestamp(),
            "gate": verdict.metrics,
            "finetune": report,
        },
        dataset=dataset,
        candidate=candidate,
    )


def positive_of(
    told: str | None, labels: Sequence[str], rows: Sequence[LabeledExample]
) -> str | None:
    """The label whose probability is the score; None where it is that of the predicted label.

    Of two labels that nobody told apart it is the rarer one.
    """
    named = {class_of(label): label for label in labels}
    if class_of(told or "") in named:
        return named[class_of(told or "")]
    if len(labels) != 2:
        return None
    counts = Counter(class_of(row.label) for row in rows)
    return min(reversed(labels), key=lambda label: counts[class_of(label)])


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The champion; `made_by` is its recipe and task, `corrections` go on to the next version.

    The predictor is the champion as the gate judged it, which has learned nothing after `train_to`.
    """

    name: str
    folder: Path
    made_by: tuple[str, str]
    corrections: Mapping[str, str]
    predictor: Predictor
    train_to: datetime | None


def _load_champion(brief: Brief) -> _Loaded | None:
    """The champion; None where there is none, it is not one of ours, or of another task."""
    if brief.champion is None:
        return None
    version = brief.champion.model_version
    try:
        folder = artifact_path(brief.champion.artifact_uri, brief.artifacts)
        manifest, predictor = load(as_judged(folder))
        if manifest.task != brief.task:
            return None
        if manifest.task != "generation":
            predictor.predict([Example("does it answer?")])  # code of others may have changed
    except Exception as error:
        model = brief.claim.model
        log.warning("champion %s of %s cannot be read: %s", version, model, one_line(error))
        return None
    made_by = (manifest.recipe, manifest.task)
    train_to, corrections = brief.champion.train_to, manifest.corrections
    if manifest.learned_to is not None:
        train_to = datetime.fromtimestamp(manifest.learned_to, UTC)
    return _Loaded(version, folder, made_by, corrections, predictor, train_to)


def _recipe(
    declared: Declared, task: Task, rows: Sequence[LabeledExample]
) -> tuple[str, Recipe, Any]:
    """The recipe to use, by the declaration or by what the examples hold, and its settings."""
    name = declared.recipe
    if not name and task == "classification":
        name = "text_classifier" if any(row.example.text for row in rows) else "tabular"
    elif not name:
        name = "tabular" if task == "regression" else task
    recipe, config = chosen(msgspec.structs.replace(declared, recipe=name))
    if task not in recipe.TASKS:
        raise SettingError(f"recipe {name} is for {', '.join(recipe.TASKS)}, the task is {task}")
    return name, recipe, config


def _shift(sampled: Sampled, version: Predictor) -> tuple[float, ...]:
    """What is added to the logit of each label; nothing where no class was balanced."""
    if not sampled.shift:
        return ()
    return tuple(sampled.shift.get(class_of(label), 0.0) for label in version.labels)


def _untrained(recipe: Recipe, config: Any) -> Predictor | None:
    """The model before any training, of a recipe that has it."""
    make = getattr(recipe, "untrained", None)
    return make(config) if make else None


def _with_ids(row: LabeledExample) -> LabeledExample:
    """The row with an example that a version can be asked, as it would be served."""
    return replace(row, example=replace(row.example, item_id=row.item_id, user_id=row.user_id))


def _as_given(
    row: LabeledExample,
    features: Sequence[str] | None,
    ids: Sequence[Id],
    lookups: Lookups,
) -> LabeledExample:
    """The row with what the version will be given: nothing that was served by another service."""
    example = row.example.given(features, ids)
    if not lookups.others.isdisjoint(example.features):
        kept = {
            name: value for name, value in example.features.items() if name not in lookups.others
        }
        example = replace(example, features=kept)
    return replace(row, example=example)


def _looked_up(lookups: Lookups, features: Sequence[str] | None) -> tuple[str, ...] | None:
    """The features of the service that a version is trained with."""
    if lookups.names is None or features is None:
        return lookups.names
    return tuple(name for name in lookups.names if name in features)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False

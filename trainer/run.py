"""A run: fine-tune, gate and suspicion turn a brief into an outcome. No engine is asked."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from headrace.control.claims import Claim
from headrace.errors import NothingToLearnError, one_line
from headrace.events.labels import class_of, spellings
from headrace.model.artifact import Artifact, artifact_path, load_adapter, read_config
from headrace.model.network import Adapter
from headrace.trainer import gate
from headrace.trainer.activations import ActivationCache, predict_cached, shared_activations
from headrace.trainer.brief import Brief
from headrace.trainer.dataset import Dataset, LabeledExample
from headrace.trainer.finetune import TrainingExample, finetune
from headrace.trainer.suspicion import doubt

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
MAX_LABELS = 100


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained version, and how it and its rival did on the newest examples."""

    artifact: Artifact
    holdout: gate.ModelMetrics
    rival: gate.ModelMetrics


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to, as `publish` writes it.

    Attributes:
        model_version: None for a candidate, which is named when it is published.
        metrics: of the event; empty where the run failed.
        dataset: None where the run failed before it had one.
        candidate: None where the run failed.
    """

    promoted: bool
    reason: str
    model_version: str | None = None
    parent: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    dataset: Dataset | None = None
    candidate: Candidate | None = None


def failed(claim: Claim, error: Exception, dataset: Dataset | None = None) -> Outcome:
    """The outcome of a run that ended in an error."""
    said = f"{type(error).__name__}: {error}".replace("\0", "")[:2_000]
    reason = said.encode(errors="backslashreplace").decode()  # lone surrogates
    name = f"failed-{claim.run_id}"
    return Outcome(promoted=False, reason=reason, model_version=name, dataset=dataset)


def train(brief: Brief, progress: Progress) -> Outcome:
    """Train a candidate and judge it.

    Raises:
        NothingToLearnError: too few labels, or all the same.
    """
    dataset, marks = brief.dataset, brief.marks
    rows, newest, old = dataset.split()
    labels = spellings(row.label for row in rows)
    if not 2 <= len(labels) <= MAX_LABELS:
        raise NothingToLearnError(
            f"a classifier needs 2 to {MAX_LABELS} labels: "
            f"got {len(labels)} in {len(rows)} examples to train on"
        )
    progress(f"{len(rows)} examples to train on, {len(newest)} newest and {len(old)} old held out")

    folder, champion = _load_champion(brief)
    artifact = finetune(
        [TrainingExample(row.example, labels[class_of(row.label)]) for row in rows],
        parent=folder,
        cache=_activations(any(row.example.text for row in rows)),
        progress=lambda step, steps, loss: _show(progress, step, steps, loss),
    )
    marks = marks.reached("trained_at")

    positive = positive_of(brief.positive_label, artifact.labels, rows)
    adapter = _as_served(artifact)
    measured = _measure(adapter, newest, old, positive)
    if champion is not None and brief.champion is not None:
        rival = _measure(champion, newest, old, positive)
        against = brief.champion.model_version
    else:
        rival = _measure_prior(artifact, newest, positive)
        against = "the prior"
    verdict = doubt(
        gate.decide(measured, rival, brief.gate, against=against),
        measured[gate.HOLDOUT],
        rival[gate.HOLDOUT],
        [class_of(row.label) for row in newest],
        [(row.example, class_of(row.label)) for row in rows],
        model=brief.claim.model,
        suspect_auc=brief.gate.suspect_auc,
    )
    marks = marks.reached("gated_at")

    return Outcome(
        promoted=verdict.passed,
        reason=verdict.reason,
        parent=brief.champion.model_version if brief.champion else None,
        metrics={
            **marks.metrics(),
            "positive_label": positive,
            "baseline_auc": measured[gate.HOLDOUT].auc,
            "baseline_accuracy": measured[gate.HOLDOUT].accuracy,
            "baseline_rows": measured[gate.HOLDOUT].n,
            "examples": len(dataset.rows),
            "dataset_sha256": dataset.sha256,
            "train_from": rows[0].event_time.timestamp(),
            "train_to": rows[-1].event_time.timestamp(),
            "gate": verdict.metrics,
            "finetune": artifact.report,
        },
        dataset=dataset,
        candidate=Candidate(
            replace(artifact, positive_label=positive), measured[gate.HOLDOUT], rival[gate.HOLDOUT]
        ),
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


def _load_champion(brief: Brief) -> tuple[Path | None, Adapter | None]:
    """Folder and adapter of the champion; None where there is none or it is not one of ours."""
    if brief.champion is None:
        return None, None
    try:
        folder = artifact_path(brief.champion.artifact_uri, brief.artifacts)
        cache = _activations(read_config(folder)["schema"]["has_text"])
        return folder, load_adapter(folder, cache.backbone if cache else None)
    except Exception as error:
        version, model = brief.champion.model_version, brief.claim.model
        log.warning("champion %s of %s cannot be read: %s", version, model, one_line(error))
        return None, None


def _activations(has_text: bool) -> ActivationCache | None:
    return shared_activations() if has_text else None


def _as_served(artifact: Artifact) -> Adapter:
    """Load the candidate as the gateway will: from its files."""
    cache = _activations(artifact.schema.has_text)
    with tempfile.TemporaryDirectory() as folder:
        artifact.save(Path(folder), "candidate")
        return load_adapter(Path(folder), cache.backbone if cache else None)


def _measure(
    adapter: Adapter,
    newest: Sequence[LabeledExample],
    old: Sequence[LabeledExample],
    positive: str | None,
) -> dict[str, gate.ModelMetrics]:
    """Metrics by part of the held out examples, and by segment of the newest."""
    measured: dict[str, gate.ModelMetrics] = {}
    classes = list(dict.fromkeys(map(class_of, adapter.labels)))
    known = _class_among(classes, positive)
    for name, rows in ((gate.HOLDOUT, newest), (gate.OLD, old)):
        if not rows:
            continue
        probabilities = predict_cached(
            adapter, _activations(adapter.schema.has_text), [row.example for row in rows]
        )
        # An old version may have two labels of one class.
        names = [[class_of(label) == one for one in classes] for label in adapter.labels]
        probabilities = probabilities @ np.array(names, dtype=probabilities.dtype)
        actual = [class_of(row.label) for row in rows]
        measured[name] = gate.evaluate(probabilities, actual, classes, known)
        if name == gate.HOLDOUT:
            segments = [row.example.segment for row in rows]
            measured |= gate.evaluate_slices(probabilities, actual, segments, classes, known)
    return measured


def _measure_prior(
    artifact: Artifact, newest: Sequence[LabeledExample], positive: str | None
) -> dict[str, gate.ModelMetrics]:
    """Metrics of a model that only knows how frequent each label is."""
    guess = gate.prior(artifact.label_shares, artifact.labels, len(newest))
    actual, classes = [class_of(row.label) for row in newest], [*map(class_of, artifact.labels)]
    known = _class_among(classes, positive)
    return {gate.HOLDOUT: gate.evaluate(guess, actual, classes, known)}


def _class_among(classes: Sequence[str], label: str | None) -> str | None:
    """The class of a label; None where it is not one of them."""
    found = None if label is None else class_of(label)
    return found if found in classes else None


def _show(progress: Progress, step: int, steps: int, loss: float) -> None:
    if step == steps or step % 16 == 0:
        progress(f"step {step}/{steps}, loss {loss:.3f}")

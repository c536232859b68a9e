"""One run: from a claim to a verdict and, where it is good, a version on disk.

claim ─► dataset ─► fine-tune ─► gate ─► artifact     (publishing is the caller's)
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.errors import NothingToLearnError, one_line
from headrace.features.reader import FeatureReader
from headrace.model.artifact import artifact_path
from headrace.model.network import Adapter, Backbone, load_backbone
from headrace.trainer import gate
from headrace.trainer.activations import ActivationCache, predict_cached
from headrace.trainer.dataset import Row, compile_dataset
from headrace.trainer.finetune import FinetuneResult, TrainingExample, finetune
from headrace.trainer.publish import next_version, write_artifact
from headrace.trainer.suspicion import doubt

log = logging.getLogger(__name__)

Progress = Callable[[str], None]
MAX_LABELS = 100


@dataclass(frozen=True)
class Outcome:
    """What a run came to; `artifact` is there when the gate let it pass."""

    model_version: str
    parent: str | None
    promoted: bool
    reason: str
    metrics: dict[str, Any]
    artifact: Path | None


@dataclass(frozen=True)
class Workshop:
    """What stays loaded from run to run: the features' reader, and the base model when needed."""

    engine: Engine
    reader: FeatureReader
    caches: list[ActivationCache]

    def activations(self) -> ActivationCache:
        if not self.caches:
            self.caches.append(ActivationCache(load_backbone()))
        return self.caches[0]


def train(shop: Workshop, claim: Claim, progress: Progress) -> Outcome:
    """See a claim through to a verdict.

    Raises:
        NothingToLearnError: too few labels, or all the same.
    """
    engine = shop.engine
    marks = {"claimed_at": claim.claimed_at.timestamp(), **_feedback_span(engine, claim)}
    dataset = compile_dataset(engine, claim, shop.reader)
    rows, newest, old = dataset.split()
    labels = sorted({row.label for row in rows})
    if not 2 <= len(labels) <= MAX_LABELS:
        raise NothingToLearnError(
            f"a classifier needs 2 to {MAX_LABELS} labels: "
            f"got {len(labels)} in {len(rows)} examples to train on"
        )
    cache = shop.activations() if any(row.example.text for row in dataset.rows) else None
    marks["compiled_at"] = time.time()
    progress(f"{len(rows)} examples to train on, {len(newest)} newest and {len(old)} old held out")

    parent, champion, folder = _champion(engine, claim.model, shop)
    result = finetune(
        [TrainingExample(row.example, row.label) for row in rows],
        parent=folder,
        cache=cache,
        progress=lambda step, steps, loss: _show(progress, step, steps, loss),
    )
    marks["trained_at"] = time.time()

    version = next_version(engine, claim.model)
    positive = _positive_label(engine, claim.model, result.labels)
    candidate = _as_adapter(version, result, cache.backbone if cache else None)
    measured = _measure(candidate, cache, newest, old, positive)
    if champion is not None:
        rival = _measure(champion, cache, newest, old, positive)
        against = f"{parent}"
    else:
        rival = _prior(result, newest, positive)
        against = "the prior"
    policy = _policy(engine, claim.model)
    holdout = measured[gate.HOLDOUT]
    verdict = doubt(
        gate.decide(measured, rival, policy, against=against),
        holdout,
        rival[gate.HOLDOUT],
        [row.label for row in newest],
        [(row.example, row.label) for row in rows],
        model=claim.model,
        suspect_auc=policy.suspect_auc,
    )
    marks["gated_at"] = time.time()

    metrics: dict[str, Any] = {
        **marks,
        "positive_label": positive,
        "baseline_auc": holdout.auc,
        "baseline_accuracy": holdout.accuracy,
        "examples": len(dataset.rows),
        "dataset_sha256": dataset.sha256,
        "train_from": rows[0].event_time.timestamp(),
        "train_to": rows[-1].event_time.timestamp(),
        "gate": verdict.metrics,
        "finetune": result.report,
    }
    artifact = None
    if verdict.passed:
        card = {
            "positive_label": positive,
            "labels": result.labels,
            "parent": parent,
            "examples": len(rows),
            "dataset_id": dataset.dataset_id,
            "dataset_sha256": dataset.sha256,
            "event_clock": claim.event_clock,
            "candidate": holdout.to_dict(),
            "champion": rival[gate.HOLDOUT].to_dict(),
            "against": against,
            "reason": verdict.reason,
        }
        artifact = write_artifact(
            engine.settings.artifacts_path, claim.model, version, result, card
        )
    return Outcome(version, parent, verdict.passed, verdict.reason, metrics, artifact)


def _feedback_span(engine: Engine, claim: Claim) -> dict[str, float]:
    """When the first and the last label that is new to this run came in."""
    (earlier,) = engine.rows(
        "select max(known_at) as known_at from control.claims "
        "where model = %s and finished_at is not null",
        [claim.model],
    )
    rows = engine.rows(
        """
        select min(ingested_at) as first_at, max(ingested_at) as last_at
        from panes.labels
        where model = %s and ingested_at <= %s and ingested_at > %s
        """,
        [claim.model, claim.known_at, earlier["known_at"] or datetime.fromtimestamp(0, UTC)],
    )
    first, last = rows[0]["first_at"], rows[0]["last_at"]
    if first is None:
        return {}
    return {"first_feedback_at": first.timestamp(), "last_feedback_at": last.timestamp()}


def _champion(
    engine: Engine, model: str, shop: Workshop
) -> tuple[str | None, Adapter | None, Path | None]:
    """The champion as name, adapter and folder; one that is not ours has only a name."""
    rows = engine.rows(
        "select model_version, artifact_uri from headrace.serving_plan "
        "where model = %s and variant = 'champion'",
        [model],
    )
    if not rows:
        return None, None, None
    try:
        folder = artifact_path(rows[0]["artifact_uri"], engine.settings.artifacts_path)
        reads_text = (folder / "adapter_model.safetensors").exists()
        adapter = Adapter.load(folder, shop.activations().backbone if reads_text else None)
    except Exception as error:
        version = rows[0]["model_version"]
        log.warning("champion %s of %s is not read: %s", version, model, one_line(error))
        return version, None, None
    return rows[0]["model_version"], adapter, folder


def _as_adapter(version: str, result: FinetuneResult, backbone: Backbone | None) -> Adapter:
    """Load the result as the gateway will: from its files."""
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder), version)
        return Adapter.load(Path(folder), backbone if result.schema.has_text else None)


def _measure(
    adapter: Adapter,
    cache: ActivationCache | None,
    newest: Sequence[Row],
    old: Sequence[Row],
    positive: str,
) -> dict[str, gate.Metrics]:
    """Metrics by part of the held out examples, and by segment of the newest."""
    measured: dict[str, gate.Metrics] = {}
    known = positive if positive in adapter.labels else None
    for name, rows in ((gate.HOLDOUT, newest), (gate.OLD, old)):
        if not rows:
            continue
        probabilities = predict_cached(
            adapter, cache if adapter.schema.has_text else None, [row.example for row in rows]
        )
        actual = [row.label for row in rows]
        measured[name] = gate.evaluate(probabilities, actual, adapter.labels, known)
        if name == gate.HOLDOUT:
            segments = [row.example.segment for row in rows]
            measured |= gate.evaluate_slices(probabilities, actual, segments, adapter.labels, known)
    return measured


def _prior(result: FinetuneResult, newest: Sequence[Row], positive: str) -> dict[str, gate.Metrics]:
    guess = gate.prior(result.label_shares, result.labels, len(newest))
    known = positive if positive in result.labels else None
    actual = [row.label for row in newest]
    return {gate.HOLDOUT: gate.evaluate(guess, actual, result.labels, known)}


def _positive_label(engine: Engine, model: str, labels: Sequence[str]) -> str:
    rows = engine.rows(
        "select positive_label from headrace.positive_labels where model = %s", [model]
    )
    found = str(rows[0]["positive_label"]) if rows else ""
    return found if found in labels else labels[-1]


def _policy(engine: Engine, model: str) -> gate.Policy:
    rows = engine.rows(
        "select gate_metric as metric, min_improvement, max_forgetting, max_slice_drop, "
        "suspect_auc from headrace.model_policies where model = %s",
        [model],
    )
    return gate.Policy.of(rows[0]) if rows else gate.Policy()


def _show(progress: Progress, step: int, steps: int, loss: float) -> None:
    if step == steps or step % 16 == 0:
        progress(f"step {step}/{steps}, loss {loss:.3f}")

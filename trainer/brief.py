"""The brief of a run: everything that it asks the engine, read once, before it computes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args

from headrace.control.claims import Claim
from headrace.declared import Declared
from headrace.engine import Engine
from headrace.features.reader import FeatureReader
from headrace.model.recipe import Task
from headrace.settings import FEATURE_SERVICE
from headrace.trainer.dataset import Dataset, SetOf, compile_dataset
from headrace.trainer.gate import GatePolicy

MAX_SECONDS = 32_503_680_000  # the year 3000


@dataclass(frozen=True, slots=True)
class Marks:
    """When a run did its steps, in unix seconds; None for what was not reached.

    They are part of the metrics of the run's event, and ``headrace.feedback_loop_latency`` reads
    them there by these names.
    """

    first_feedback_at: float | None = None  # the first label that is new to the run came in
    last_feedback_sent_at: float | None = None  # by its own event_time, if that is no replay's
    last_feedback_ingested_at: float | None = None
    last_feedback_at: float | None = None  # when its prediction was there, too
    claimed_at: float | None = None
    compiled_at: float | None = None  # the training set was there
    trained_at: float | None = None
    gated_at: float | None = None

    def reached(self, step: str) -> Marks:
        """The marks with this step at the present time."""
        return replace(self, **{step: time.time()})

    def metrics(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Champion:
    """The version to beat; its artifact may be of another system.

    Attributes:
        train_to: the last event time that it was trained on; None where it does not tell.
    """

    model_version: str
    artifact_uri: str
    train_to: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lookups:
    """What the feature store gives to the examples of a run, and to the version that comes of it.

    Attributes:
        names: features of the service; None where nothing tells.
        others: features of the store that are not in the service.
    """

    service: str = FEATURE_SERVICE
    names: tuple[str, ...] | None = None
    others: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Brief:
    """What a run has to know; from here on it does not use the engine.

    Attributes:
        positive_label: by the policies and events of the model; None before its first label.
        task: what is predicted.
        declared: how the model is trained.
        spread: of the gain that the last run measured over a champion; None before that.
        artifacts: folder of published versions.
    """

    claim: Claim
    dataset: Dataset
    champion: Champion | None
    positive_label: str | None
    gate: GatePolicy
    artifacts: Path
    marks: Marks
    task: Task = "classification"
    declared: Declared = Declared()
    spread: float | None = None
    lookups: Lookups = Lookups()


def read_brief(
    engine: Engine, claim: Claim, reader: FeatureReader, declared: Declared | None = None
) -> Brief:
    """Ask the engine everything that the run of a claim needs."""
    declared = declared or Declared()
    model = claim.model
    marks = _feedback_marks(engine, claim)
    (gate,) = engine.rows(
        "select gate_metric as metric, min_improvement, max_forgetting, max_slice_drop, "
        "suspect_auc from headrace.model_policies where model = %s",
        [model],
    )
    champions = engine.rows(
        "select plan.model_version, plan.artifact_uri, champion.metrics ->> 'train_to' as train_to "
        "from headrace.serving_plan as plan left join headrace.champions as champion "
        "on plan.model = champion.model and plan.model_version = champion.model_version "
        "where plan.model = %s and plan.variant = 'champion'",
        [model],
    )
    positives = engine.rows(
        "select positive_label from headrace.positive_labels where model = %s", [model]
    )
    spreads = engine.rows(
        "select metrics -> 'gate' ->> 'spread' as spread from events.model_events "
        "where model = %s and event in ('trained', 'rejected') and parent_version is not null "
        "order by ingested_at desc limit 1",
        [model],
    )
    task = declared.task or _task(engine, model)
    of = cast(SetOf, task if task in ("preference", "generation") else "classification")
    dataset = compile_dataset(engine, claim, reader, of)
    return Brief(
        claim=claim,
        dataset=dataset,
        champion=_champion(champions[0]) if champions else None,
        positive_label=positives[0]["positive_label"] if positives else None,
        gate=GatePolicy(**gate),
        artifacts=engine.settings.artifacts_path,
        marks=marks.reached("compiled_at"),
        task=task,
        declared=declared,
        spread=_number(spreads[0]["spread"]) if spreads else None,
        lookups=Lookups(reader.service, tuple(reader.names), reader.others),
    )


def _task(engine: Engine, model: str) -> Task:
    """The task by the policy or the events; rewards are classes, too: good ones and bad ones."""
    (told,) = engine.rows("select task from headrace.model_tasks where model = %s", [model])
    found = told["task"]
    return cast(Task, found) if found in get_args(Task) else "classification"


def _champion(row: Mapping[str, Any]) -> Champion:
    seconds = _number(row["train_to"])
    train_to = None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return Champion(row["model_version"], row["artifact_uri"], train_to)


def _number(text: str | None) -> float | None:
    """A number of a version's metrics, where anybody may have written anything."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value <= MAX_SECONDS else None


def _feedback_marks(engine: Engine, claim: Claim) -> Marks:
    """Marks of the claim, and of the labels that came in since the run before it."""
    (earlier,) = engine.rows(
        "select max(known_at) as known_at from control.claims "
        "where model = %s and finished_at is not null",
        [claim.model],
    )
    (new,) = engine.rows(
        """
        select min(arrived_at) as first_at, max(arrived_at) as last_at
        from panes.labels
        where model = %s and arrived_at <= %s and arrived_at > %s and kind != 'default'
        """,
        [claim.model, claim.known_at, earlier["known_at"] or datetime.fromtimestamp(0, UTC)],
    )
    said = engine.rows(
        """
        select
            feedback.ingested_at,
            case
                when feedback.event_time > feedback.ingested_at - interval '1 hour'
                    then least(feedback.event_time, feedback.ingested_at)
            end as sent_at
        from panes.labels as labels
        inner join events.feedback as feedback on labels.feedback_id = feedback.feedback_id
        where labels.model = %s and labels.ingested_at = %s
        order by feedback.ingested_at desc
        limit 1
        """,
        [claim.model, new["last_at"]],
    )
    last = said[0] if said else {"ingested_at": None, "sent_at": None}
    return Marks(
        first_feedback_at=new["first_at"] and new["first_at"].timestamp(),
        last_feedback_sent_at=last["sent_at"] and last["sent_at"].timestamp(),
        last_feedback_ingested_at=last["ingested_at"] and last["ingested_at"].timestamp(),
        last_feedback_at=new["last_at"] and new["last_at"].timestamp(),
        claimed_at=claim.claimed_at.timestamp(),
    )

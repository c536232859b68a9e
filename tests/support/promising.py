"""A claim of a model, an outcome that was promoted without any training, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from headrace.control.claims import Claim, Heartbeat, claim
from headrace.control.handover import hand_over
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.model.artifact import Manifest, Run, folder_name
from headrace.trainer.dataset import Dataset
from headrace.trainer.run import Candidate, Outcome
from headrace.trainer.watch import Trainer
from tests.support.competition import TRIGGER


def make_known(engine: Engine) -> None:
    """Have the model of the trigger hand over its learning, and have a clock."""
    hand_over(engine, TRIGGER.model, learns=True)
    event = parse("inference", {"model": TRIGGER.model, "event_time": "2024-05-01T00:00:00Z"})
    with EventLog(engine) as log:
        log.append("inference", [event])


def taken(engine: Engine, worker: str) -> Claim:
    """The claim of a worker that must get it."""
    held = claim(engine, TRIGGER, worker)
    assert held is not None
    return held


def drafted(engine: Engine, held: Claim) -> Path:
    """A draft with what a recipe wrote, in the folder that the trainer makes for the claim."""
    draft = folder(engine) / f".draft-{Run(held.run_id, held.attempt)}"
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "weights.txt").write_text(held.worker)
    return draft


def promising(engine: Engine, held: Claim, said: str = "better") -> Outcome:
    """An outcome to publish; `said` is its reason and tells it from others."""
    metrics = {"n": 40, "auc": 0.9, "log_loss": 0.3}
    manifest = Manifest(recipe="tabular", task="classification", labels=("leaves", "stays"))
    return Outcome(
        promoted=True,
        reason=said,
        metrics={"examples": 200},
        dataset=Dataset(held.run_id, {"model": held.model}, said, []),
        candidate=Candidate(drafted(engine, held), manifest, metrics, metrics),
    )


def events(engine: Engine) -> list[tuple[str, str]]:
    """The stored model events with their reasons."""
    rows = engine.rows("select event, reason from events.model_events order by event desc")
    return [(row["event"], row["reason"]) for row in rows]


def folder(engine: Engine) -> Path:
    """Where the versions of the model lie."""
    return engine.settings.artifacts_path / folder_name(TRIGGER.model)


def folders(engine: Engine) -> list[str]:
    """The names of the versions and drafts that are there."""
    there = [path.name for path in folder(engine).glob("*") if path.is_dir()]
    return sorted(name for name in there if name != "datasets")


def run(engine: Engine, held: Claim, patch: pytest.MonkeyPatch, train: Any) -> None:
    """Have a trainer run a claim with another way to train."""
    patch.setattr("headrace.trainer.watch.read_brief", lambda *_: Mock(dataset=None))
    patch.setattr("headrace.trainer.watch.train", train)
    with Trainer(engine) as trainer, Heartbeat(engine, held) as heartbeat:
        trainer._run(held, heartbeat)

"""A claim of a model, and an outcome that was promoted without any training."""

from __future__ import annotations

import torch

from headrace.control.claims import Claim, claim
from headrace.control.handover import hand_over
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.model.artifact import Artifact
from headrace.model.inputs import Example, Schema
from headrace.trainer.dataset import Dataset
from headrace.trainer.gate import ModelMetrics
from headrace.trainer.run import Candidate, Outcome
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


def promising(held: Claim, said: str = "better") -> Outcome:
    """An outcome to publish; `said` is its reason and tells it from others."""
    metrics = ModelMetrics(n=40, auc=0.9, f1=0.8, log_loss=0.3, accuracy=0.85, brier=0.2)
    artifact = Artifact(
        labels=("leaves", "stays"),
        schema=Schema.fit([Example("", None, {"bill": 1.0}), Example("", None, {"bill": 2.0})]),
        finetune={},
        adapter={},
        head={"out.weight": torch.zeros(2)},
        label_shares={"leaves": 0.5, "stays": 0.5},
        report={"examples": 200},
    )
    return Outcome(
        promoted=True,
        reason=said,
        metrics={"examples": 200},
        dataset=Dataset(held.run_id, {"model": held.model}, said, []),
        candidate=Candidate(artifact, metrics, metrics),
    )

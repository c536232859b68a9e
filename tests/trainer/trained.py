"""A first run of a declared model over labels that are one minute apart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headrace.control.claims import Claim
from headrace.declared import Declared
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.model.recipe import Task
from headrace.trainer import run
from headrace.trainer.brief import Brief, Marks
from headrace.trainer.dataset import Dataset
from headrace.trainer.gate import GatePolicy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLAIM = Claim("m/1", "m", "w", "run", 1, NOW, NOW, NOW)


def trained(
    folder: Path, task: Task, base: str, config: dict[str, Any], texts: Sequence[tuple[str, ...]]
) -> run.Outcome:
    """Train with the recipe that is called like the task; texts are prompt, label, rejected."""
    rows = [
        LabeledExample(
            f"r{at}",
            NOW + timedelta(minutes=at),
            NOW,
            Example(prompt),
            label,
            rejected=rejected[0] if rejected else None,
        )
        for at, (prompt, label, *rejected) in enumerate(texts)
    ]
    brief = Brief(
        CLAIM,
        Dataset("d", {}, "", rows),
        None,
        None,
        GatePolicy(),
        folder,
        Marks(),
        task=task,
        declared=Declared(recipe=task, base=base, config=config),
    )
    return run.train(brief, folder, lambda _: None)

"""Classes or numbers by numbers and categories: a small network, and a weight for each value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from headrace.model.config import MOST_COLUMNS
from headrace.model.recipe import Predictor, Progress, Task, TrainingExample, TrainingSet

TASKS: tuple[Task, ...] = ("classification", "regression")
NEEDS: tuple[str, ...] = ()


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a model of numbers and categories.

    Attributes:
        steps: of the training.
        batch_size: examples in one step.
        head_lr: learning rate.
        weight_decay: of the network.
        wide_strength: inverse of the L2 penalty on the weights of values.
        folds: how many times these weights are fitted to hold a part out.
        ewc: how firmly the network stays where older examples need it; 1: as if these were trained
            on, too; 0: not at all.
        columns: how many columns a version may have. It adds one to its parent's, which stay as
            they are; when there are as many, the newest goes on learning; 1: no columns.
    """

    steps: Annotated[int, Meta(ge=1)] = 1_000
    batch_size: Annotated[int, Meta(ge=1)] = 64
    head_lr: Annotated[float, Meta(ge=0, le=1)] = 3e-3
    weight_decay: Annotated[float, Meta(ge=0, lt=1)] = 0.01
    wide_strength: Annotated[float, Meta(gt=0)] = 3.0
    folds: Annotated[int, Meta(ge=2)] = 3
    ewc: Annotated[float, Meta(ge=0)] = 0.0
    columns: Annotated[int, Meta(ge=1, le=MOST_COLUMNS)] = 1


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Train the network over numbers and categories; a text is not read."""
    from headrace.model.config import FinetuneConfig
    from headrace.model.finetune import finetune

    settings = FinetuneConfig(
        tabular_steps=config.steps,
        batch_size=config.batch_size,
        head_lr=config.head_lr,
        weight_decay=config.weight_decay,
        wide_strength=config.wide_strength,
        folds=config.folds,
        ewc=config.ewc,
        columns=config.columns,
    )
    examples = [replace(one, example=replace(one.example, text="")) for one in dataset.examples]
    artifact = finetune(
        examples, parent, settings, task=dataset.task, progress=progress, seed=dataset.seed
    )
    artifact.save(folder)
    return artifact.report


def update(
    parent: Path, examples: Sequence[TrainingExample], folder: Path, *, rate: float, steps: int
) -> Mapping[str, Any]:
    """Let the head take a step; `folder` is a copy of the parent."""
    from headrace.model.head_step import head_step

    return head_step(parent, examples, folder, rate=rate, steps=steps)


def load(folder: Path) -> Predictor:
    """Load a version."""
    from headrace.model.weights import load_adapter

    return load_adapter(folder)

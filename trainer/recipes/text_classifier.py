"""Classes of texts, with features beside them: an encoder with LoRA, word weights and a head.

Where no text occurs, it is `tabular` that fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.model.config import FinetuneConfig as Config
from headrace.model.recipe import Predictor, Progress, Task, TrainingExample, TrainingSet

TASKS: tuple[Task, ...] = ("classification",)
NEEDS: tuple[str, ...] = ()


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Fine-tune the adapter, and the head over all of it."""
    from headrace.model.finetune import finetune

    artifact = finetune(dataset.examples, parent, config, progress=progress, seed=dataset.seed)
    artifact.save(folder)
    return artifact.report


def update(
    parent: Path, examples: Sequence[TrainingExample], folder: Path, *, rate: float, steps: int
) -> Mapping[str, Any]:
    """Let the head take a step; `folder` is a copy of the parent."""
    from headrace.model.head_step import head_step

    return head_step(parent, examples, folder, rate=rate, steps=steps)


def load(folder: Path) -> Predictor:
    """Load a version; the encoder is shared by all of this process."""
    from headrace.model.activations import shared_backbone
    from headrace.model.weights import load_adapter, read_config

    reads_text = read_config(folder)["schema"]["has_text"]
    return load_adapter(folder, shared_backbone() if reads_text else None)

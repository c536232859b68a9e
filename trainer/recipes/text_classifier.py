"""Classes of texts, with features beside them: words, an encoder with LoRA, and a table's network.

Each part is a classifier of its own. Held-out examples weigh them, and say whether the adapter
earns its cost. Where no text occurs, it is `tabular` that fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace.model.recipe import Predictor, Progress, Task, TrainingExample, TrainingSet
from headrace.model.text.config import Config as Config

TASKS: tuple[Task, ...] = ("classification",)
NEEDS: tuple[str, ...] = ()


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Train the parts and weigh them; `parts` of the report says what each of them gained."""
    from headrace.trainer.recipes._text import fit_stack

    return fit_stack(dataset, parent, config, progress, folder)


def complete(dataset: TrainingSet, config: Config, folder: Path) -> Mapping[str, Any]:
    """Fit the words and the states anew; the adapter, the table's network and the weights stay."""
    from headrace.trainer.recipes._text import complete

    return complete(dataset, config, folder)


def update(
    parent: Path, examples: Sequence[TrainingExample], folder: Path, *, rate: float, steps: int
) -> Mapping[str, Any]:
    """Let a linear correction take a step; `folder` is a copy of the parent."""
    from headrace.model.text.correction import correct

    return correct(parent, examples, folder, rate=rate, steps=steps)


def load(folder: Path) -> Predictor:
    """Load a version; the encoder is shared by all of this process."""
    from headrace.model.text.version import load

    return load(folder)

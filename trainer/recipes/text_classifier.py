"""Classes of texts, with features beside them: words, an encoder with LoRA, and a table's network.

Each part is a classifier of its own. Held-out examples weigh them, and say whether the adapter
earns its cost. Where no text occurs, it is `tabular` that fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from headrace.model.recipe import Predictor, Progress, Task, TrainingExample, TrainingSet

TASKS: tuple[Task, ...] = ("classification",)
NEEDS: tuple[str, ...] = ()

Count = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(ge=0, le=1)]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a text classifier.

    Attributes:
        base: the encoder, a folder or the id of a hub; empty for all-MiniLM-L6-v2, which comes
            with Headrace.
        tokens: that the encoder reads of a text.
        text_examples: most texts that the adapter reads, half the newest, half older ones.
        adapter: `auto` keeps it where held-out examples show that it gains, `always` keeps it in
            any case, `never` trains none.
        rank: of the LoRA matrices.
        alpha: the adapter is scaled by alpha / rank.
        lora_lr: learning rate of the LoRA matrices.
        head_lr: learning rate of the head that they are trained with.
        epochs: of the adapter; 0 for 1 where texts are long, 2 where they are short, 3 where there
            are fewer than 50 examples a class.
        batch_size: examples in one step of the adapter.
    """

    base: str = ""
    tokens: Annotated[int, Meta(ge=8, le=512)] = 64
    text_examples: Count = 2_500
    adapter: Literal["auto", "always", "never"] = "auto"
    rank: Count = 8
    alpha: Count = 16
    lora_lr: Rate = 2e-3
    head_lr: Rate = 1e-3
    epochs: Annotated[int, Meta(ge=0)] = 0
    batch_size: Count = 32


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Train the parts and weigh them; `parts` of the report says what each of them gained."""
    from headrace.trainer.recipes._text import fit_stack

    return fit_stack(dataset, parent, config, progress, folder)


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

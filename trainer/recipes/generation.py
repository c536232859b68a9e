"""Answers to prompts: a causal language model with LoRA learns corrections and accepted answers.

The prompt is the example's text, the answer to learn its label. Only the answer's tokens count.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from headrace.model.config import Adaptation
from headrace.model.recipe import Progress, Task, TrainingSet, Writer

if TYPE_CHECKING:
    from headrace.model.base import Base
    from headrace.model.causal import LanguageModel

TASKS: tuple[Task, ...] = ("generation",)
NEEDS: tuple[str, ...] = ()


class Config(Adaptation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a model that writes.

    Attributes:
        base: the language model to start from, a folder or a name of the Hugging Face hub.
        rank: of the LoRA matrices, which every linear layer gets.
        alpha: the matrices are scaled by alpha / rank.
        lr: the highest learning rate.
        epochs: how often each example is read.
        weight_decay: of the matrices.
        max_tokens: of a prompt and its answer; what is longer is cut.
        batch_tokens: of one step, padding included; it bounds the memory.
        gradient_checkpointing: computes activations twice to keep fewer of them.
        deterministic: refuse operations that differ from run to run.
        processes: that train, each on a device of its own; 0: one for each GPU.
        shard: `auto` cuts a base into pieces, one for each process, where its weights take more
            than a third of a GPU's memory.
        max_new_tokens: of an answer that is written.
    """

    base: Annotated[str, Meta(min_length=1)]
    max_new_tokens: Annotated[int, Meta(ge=1)] = 256


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Learn the answers, starting from the parent's matrices where its base is the same."""
    from headrace.model.parallel import processes
    from headrace.model.sft import fit_answers
    from headrace.trainer.recipes._several import fit_in_processes

    if (count := processes(config)) > 1:
        return fit_in_processes("generation", count, dataset, parent, config, progress, folder)
    return fit_answers(dataset, parent, config.base, config, progress, folder)


def load(folder: Path) -> Writer:
    """Load a version; versions with the same base share it."""
    import msgspec

    from headrace.model.base import base_of
    from headrace.model.lora import load_lora

    base, settings = base_of(folder)
    config = msgspec.convert(settings, Config)
    return _writer(base, load_lora(base, folder), config)


def untrained(config: Config) -> Writer:
    """Return the base as it is, to be beaten by the first version."""
    from headrace.model.base import open_base

    base = open_base(config.base)
    return _writer(base, base.model, config)


def _writer(base: Base, model: Any, config: Config) -> LanguageModel:
    from headrace.model.causal import LanguageModel

    return LanguageModel(base, model, config.max_tokens, config.max_new_tokens, config.batch_tokens)

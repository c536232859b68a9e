"""Which of two answers people prefer: a reward model, or a language model that learns it (DPO).

The prompt is the example's text, `label` the preferred answer and `rejected` the other one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from headrace.errors import NothingToLearnError, SettingError
from headrace.model.config import Adaptation
from headrace.model.recipe import Predictor, Progress, Task, TrainingSet

TASKS: tuple[Task, ...] = ("preference",)
NEEDS: tuple[str, ...] = ()


class Config(Adaptation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a model of preferences.

    Attributes:
        method: reward: an encoder learns a number for each answer; dpo: a causal language model
            learns to write what is preferred.
        base: the model to start from, a folder or a name of the Hugging Face hub; "": for rewards
            the encoder that Headrace brings.
        beta: how far DPO may go from the base; the larger, the less.
        rank: of the LoRA matrices, which every linear layer gets.
        alpha: the matrices are scaled by alpha / rank.
        lr: the highest learning rate; the head of rewards has ten times that.
        epochs: how often each pair is read.
        weight_decay: of what is trained.
        max_tokens: of a prompt and its answer; what is longer is cut.
        batch_tokens: of one step, padding included; it bounds the memory.
        gradient_checkpointing: computes activations twice to keep fewer of them.
        deterministic: refuse operations that differ from run to run.
        processes: that train, each on a device of its own; 0: one for each GPU.
        shard: `auto` cuts a base into pieces, one for each process, where its weights take more
            than a third of a GPU's memory.
        max_new_tokens: of an answer that a model trained by DPO writes.
    """

    method: Literal["reward", "dpo"] = "reward"
    base: str = ""
    beta: Annotated[float, Meta(gt=0)] = 0.1
    max_new_tokens: Annotated[int, Meta(ge=1)] = 256


def fit(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Learn from the pairs whose answers differ, starting from a parent of the same base.

    Raises:
        NothingToLearnError: there is no such pair.
        SettingError: DPO has no base.
    """
    pairs = [one for one in dataset.examples if one.rejected not in (None, one.label)]
    if not pairs:
        raise NothingToLearnError(
            f"preferences need a preferred and a rejected answer: none of "
            f"{len(dataset.examples)} examples has two that differ"
        )
    from headrace.model.parallel import processes
    from headrace.trainer.recipes._several import fit_in_processes

    if (count := processes(config)) > 1:
        return fit_in_processes("preference", count, dataset, parent, config, progress, folder)
    if config.method == "reward":
        from headrace.model.reward import fit_reward

        return fit_reward(pairs, parent, config.base, config, dataset.seed, progress, folder)
    if not config.base:
        raise SettingError("base: must be a causal language model for the method dpo, got ''")
    from headrace.model.dpo import fit_dpo

    return fit_dpo(pairs, parent, config.base, config.beta, config, dataset.seed, progress, folder)


def load(folder: Path) -> Predictor:
    """Load a version; versions with the same base share it."""
    import msgspec

    from headrace.model.base import base_of, read_base
    from headrace.model.lora import load_lora

    config = msgspec.convert(read_base(folder)["settings"], Config)
    base, _ = base_of(folder, "causal" if config.method == "dpo" else "encoder")
    model = load_lora(base, folder)
    if config.method == "reward":
        from headrace.model.reward import load_reward

        return load_reward(base, model, folder, config)
    from headrace.model.causal import LanguageModel
    from headrace.model.dpo import PreferenceModel

    writer = LanguageModel(
        base, model, config.max_tokens, config.max_new_tokens, config.batch_tokens
    )
    return PreferenceModel(writer, config.beta)

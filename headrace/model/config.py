"""Settings of training, importable without torch."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, lt=1)]
Rate = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Tokens = Annotated[int, Meta(ge=16)]


class FinetuneConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a fine-tune.

    Attributes:
        text_examples: how many texts the adapted layers read: half the newest, half older ones,
            as many of each class as there are.
        tabular_steps: steps of a model without text.
        batch_size: examples in one step.
        rank: of the LoRA matrices.
        alpha: the adapter is scaled by alpha / rank.
        lora_lr: learning rate of the LoRA matrices.
        head_lr: learning rate of the head.
        weight_decay: of both.
        dropout: of the pooled text.
        wide_strength: inverse of the L2 penalty on the word and name weights.
        stop_share: share of a table's examples by which its training is stopped.
        folds: how many times the word weights are fitted to hold a part out.
        ewc: how firmly the adapter and the head stay where older examples need them; 1: as if these
            were trained on, too; 0: not at all.
    """

    text_examples: Count = 2_048
    tabular_steps: Count = 600
    batch_size: Count = 32
    rank: Count = 8
    alpha: Count = 16
    lora_lr: Rate = 2e-3
    head_lr: Rate = 1e-3
    weight_decay: Share = 0.01
    dropout: Share = 0.1
    wide_strength: Annotated[float, Meta(gt=0)] = 3.0
    stop_share: Annotated[float, Meta(ge=0, le=0.5)] = 0.2
    folds: Annotated[int, Meta(ge=2)] = 3
    ewc: Annotated[float, Meta(ge=0)] = 0.0


class Adaptation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the training of LoRA matrices; the recipes that have them say what each means."""

    rank: Count = 16
    alpha: Count = 32
    lr: Rate = 5e-4
    epochs: Count = 2
    weight_decay: Share = 0.0
    max_tokens: Tokens = 1_024
    batch_tokens: Tokens = 4_096
    gradient_checkpointing: bool = False
    deterministic: bool = False

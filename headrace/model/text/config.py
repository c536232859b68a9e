"""Settings of a text classifier, importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from headrace.model.config import Federation

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
        int8_tolerance: weights in 8 bits serve where no probability of the held-out examples moves
            by more; 0: float32 serves.
        int8_changed: the same for the share of these whose most probable label changes.
        federation: the adapter is learned together with other sites; none: alone.
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
    int8_tolerance: Rate = 0.02
    int8_changed: Rate = 0.005
    federation: Federation | None = None

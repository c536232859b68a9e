"""Settings of training, importable without torch."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, lt=1)]
Rate = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Tokens = Annotated[int, Meta(ge=16)]
MOST_COLUMNS = 8


class FinetuneConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a fine-tune of the network over tables.

    Attributes:
        tabular_steps: steps, at most.
        batch_size: examples in one step.
        head_lr: learning rate.
        weight_decay: of the deep part.
        wide_strength: inverse of the L2 penalty on the weights of names and values.
        stop_share: share of the examples by which the training is stopped.
        folds: how many times these weights are fitted to hold a part out.
        ewc: how firmly the deep part stays where older examples need it; 1: as if these were
            trained on, too; 0: not at all.
        columns: how many columns a version may have. It adds one to its parent's, which stay as
            they are; when there are as many, the newest goes on learning.
    """

    tabular_steps: Count = 600
    batch_size: Count = 32
    head_lr: Rate = 1e-3
    weight_decay: Share = 0.01
    wide_strength: Annotated[float, Meta(gt=0)] = 3.0
    stop_share: Annotated[float, Meta(ge=0, le=0.5)] = 0.2
    folds: Annotated[int, Meta(ge=2)] = 3
    ewc: Annotated[float, Meta(ge=0)] = 0.0
    columns: Annotated[int, Meta(ge=1, le=MOST_COLUMNS)] = 1


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
    processes: Annotated[int, Meta(ge=0, le=64)] = 0
    shard: Literal["auto", "always", "never"] = "auto"


class Federation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a recipe learns matrices together with other sites.

    Attributes:
        server: `host:port` of `headrace federated`.
        certificate: file of the authority that signed the server's certificate, as PEM; "": no
            encryption, for a server on this machine.
        wait_s: seconds to wait for the server, and for the other sites in each round.
        python: the Python of the environment that has Flower; "": the one that trains.
    """

    server: str
    certificate: str = ""
    wait_s: Annotated[float, Meta(gt=0, le=604_800)] = 3_600.0
    python: str = ""

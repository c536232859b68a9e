"""Supervised fine-tuning: a language model learns to give the right answers (LoRA)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from headrace.model.base import open_base
from headrace.model.causal import Row, rows_of, token_losses
from headrace.model.config import Adaptation
from headrace.model.lora import (
    adapted,
    descend,
    epochs,
    on_device,
    peak_memory,
    save_lora,
    seeded,
    start_of,
)
from headrace.model.network import default_device
from headrace.model.recipe import Progress, TrainingSet


def fit_answers(
    dataset: TrainingSet,
    parent: Path | None,
    base_name: str,
    config: Adaptation,
    progress: Progress,
    folder: Path,
) -> Mapping[str, Any]:
    """Minimise the mean loss of the answers' tokens, and write the version into `folder`.

    A parent of the same base is continued.
    """
    started = time.perf_counter()
    base = open_base(base_name)
    device = torch.device(default_device())
    examples = [one.example for one in dataset.examples]
    answers = [one.label for one in dataset.examples]
    rows = rows_of(base, examples, answers, config.max_tokens)
    weights = [one.weight for one in dataset.examples]
    steps = epochs([len(row) for row in rows], config, dataset.seed)
    start = start_of(parent, base, config)
    with seeded(dataset.seed, device, config.deterministic):
        model = adapted(base, config, start)
        inner = model.get_base_model()

        def loss_of(picked: Sequence[int]) -> tuple[Tensor, Tensor]:
            losses, owner = token_losses(inner, [rows[at] for at in picked], device)
            weight = on_device([weights[at] for at in picked], device)[owner]
            return (losses * weight).sum(), weight.sum()

        trainable = [one for one in model.parameters() if one.requires_grad]
        loss = descend([{"params": trainable}], steps, loss_of, config, device, progress)
    save_lora(model, folder)
    base.describe(folder, msgspec.to_builtins(config))
    return {
        "base": base.name,
        "examples": len(rows),
        "warm_started": start is not None,
        **report(rows, steps, loss, started),
        "peak_memory": peak_memory(device),
        "device": device.type,
        "seed": dataset.seed,
    }


def report(
    rows: Sequence[Row], steps: Sequence[Sequence[int]], loss: float, started: float
) -> dict[str, Any]:
    """Say how much was learned from; `padding` is the share of tokens that filled batches up."""
    lengths = [[len(rows[at]) for at in step] for step in steps]
    tokens = sum(map(sum, lengths))
    room = sum(max(step) * len(step) for step in lengths)
    seconds = time.perf_counter() - started
    return {
        "steps": len(steps),
        "train_loss": round(loss, 4),
        "tokens": tokens,
        "padding": round(1 - tokens / room, 4),
        "seconds": round(seconds, 2),
    }

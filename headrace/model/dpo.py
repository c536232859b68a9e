"""Direct preference optimisation of a causal language model (DPO, Rafailov et al. 2023).

    loss = -log sigmoid(beta * (log pi(w)/ref(w) - log pi(l)/ref(l)))

w is the preferred answer and l the rejected one, pi the model with its LoRA matrices and ref the
base. What ref says is computed once, before the training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from headrace.model.base import open_base
from headrace.model.causal import LanguageModel, answer_losses, rows_of, summed, token_losses
from headrace.model.config import Adaptation
from headrace.model.inputs import Example
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
from headrace.model.recipe import ANSWER, Progress, TrainingExample
from headrace.model.sft import report


def fit_dpo(
    pairs: Sequence[TrainingExample],
    parent: Path | None,
    base_name: str,
    beta: float,
    config: Adaptation,
    seed: int,
    progress: Progress,
    folder: Path,
) -> Mapping[str, Any]:
    """Learn to prefer `label` to `rejected`, and write the version into `folder`.

    A parent of the same base is continued; the base stays the reference.
    """
    started = time.perf_counter()
    base = open_base(base_name)
    device = torch.device(default_device())
    asked = [one.example for one in pairs]
    rows = [
        *rows_of(base, asked, [one.label for one in pairs], config.max_tokens),
        *rows_of(base, asked, [one.rejected or "" for one in pairs], config.max_tokens),
    ]
    count = len(pairs)
    lengths = [2 * max(len(rows[at]), len(rows[count + at])) for at in range(count)]
    steps = epochs(lengths, config, seed)
    start = start_of(parent, base, config)
    with seeded(seed, device, config.deterministic):
        model = adapted(base, config, start)
        inner = model.get_base_model()
        with model.disable_adapter():
            reference = -answer_losses(inner, rows, device, config.batch_tokens)
        margins = reference[:count] - reference[count:]

        def loss_of(picked: Sequence[int]) -> tuple[Tensor, Tensor]:
            both = [*picked, *(count + at for at in picked)]
            losses, owner = token_losses(inner, [rows[at] for at in both], device)
            chosen, rejected = (-summed(losses, owner, len(both))).chunk(2)
            margin = chosen - rejected - on_device(margins[list(picked)], device)
            weight = on_device([pairs[at].weight for at in picked], device)
            return (-F.logsigmoid(beta * margin) * weight).sum(), weight.sum()

        trainable = [one for one in model.parameters() if one.requires_grad]
        loss = descend([{"params": trainable}], steps, loss_of, config, device, progress)
    save_lora(model, folder)
    base.describe(folder, msgspec.to_builtins(config))
    both = [[*step, *(count + at for at in step)] for step in steps]
    return {
        "base": base.name,
        "examples": count,
        "warm_started": start is not None,
        **report(rows, both, loss, started),
        "peak_memory": peak_memory(device),
        "device": device.type,
        "seed": seed,
    }


@dataclass(slots=True)
class PreferenceModel:
    """A language model whose likelihoods are rewards; any thread may call it."""

    writer: LanguageModel
    beta: float
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = (ANSWER,)

    def predict(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Return beta * (log pi - log ref) of the answer in the feature `answer`, (n,)."""
        writer = self.writer
        answers = [str(example.features.get(ANSWER, "")) for example in examples]
        rows = rows_of(writer.base, examples, answers, writer.max_tokens)
        ours, reference = (
            answer_losses(model, rows, writer.base.device, writer.batch_tokens)
            for model in (writer.model, writer.base.model)
        )
        return np.float32(self.beta) * (reference - ours)

    def write(self, examples: Sequence[Example]) -> NDArray[np.object_]:
        """Return an answer to each example, (n,) of strings."""
        return self.writer.predict(examples)

"""A reward model: an encoder of "prompt [SEP] answer" with LoRA, and a linear head.

    loss = -log sigmoid(reward of the preferred answer - reward of the rejected one)

(Bradley & Terry 1952). Features of a request are the same for both answers, so a linear head would
learn nothing from them, and they are not read.
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
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from headrace.model import parallel
from headrace.model.base import Base, open_base
from headrace.model.config import Adaptation
from headrace.model.inputs import Example
from headrace.model.lora import (
    adapted,
    autocast,
    batches,
    descend,
    epochs,
    on_device,
    peak_memory,
    save_lora,
    seeded,
    start_of,
)
from headrace.model.network import default_device, padded
from headrace.model.recipe import ANSWER, Progress, TrainingExample
from headrace.model.weights import HEAD_WEIGHTS, read_weights

HEAD_LR = 10.0  # the head learns faster than the matrices, by this factor


def fit_reward(
    pairs: Sequence[TrainingExample],
    parent: Path | None,
    base_name: str,
    config: Adaptation,
    seed: int,
    progress: Progress,
    folder: Path,
) -> Mapping[str, Any]:
    """Learn rewards that order `label` above `rejected`, and write the version into `folder`."""
    started = time.perf_counter()
    base = open_base(base_name, "encoder")
    device, count = torch.device(default_device()), len(pairs)
    answers = [*(one.label for one in pairs), *(one.rejected or "" for one in pairs)]
    texts = [one.example.text for one in pairs] * 2
    rows = _rows(base, texts, answers, config.max_tokens)
    lengths = [2 * max(len(rows[at]), len(rows[count + at])) for at in range(count)]
    steps = epochs(lengths, config, seed)
    start = start_of(parent, base, config)
    with seeded(seed, device, config.deterministic):
        # What pools the hidden states for other uses is not part of the reward.
        model = adapted(base, config, start, exclude=r".*pooler.*")
        head = _head(base).to(device)
        if start:
            head.load_state_dict(read_weights(start, HEAD_WEIGHTS))

        def loss_of(picked: Sequence[int]) -> tuple[Tensor, Tensor]:
            both = [*picked, *(count + at for at in picked)]
            rewards = _rewards(model.get_base_model(), head, [rows[at] for at in both], device)
            chosen, rejected = rewards.chunk(2)
            weight = on_device([pairs[at].weight for at in picked], device)
            return (-F.logsigmoid(chosen - rejected) * weight).sum(), weight.sum()

        groups: list[dict[str, Any]] = [
            {"params": [one for one in model.parameters() if one.requires_grad]},
            {"params": list(head.parameters()), "lr": HEAD_LR * config.lr},
        ]
        loss = descend(groups, steps, loss_of, config, device, progress)
    save_lora(model, folder)
    weights = {name: value.cpu() for name, value in head.state_dict().items()}
    if parallel.is_first():
        save_file(weights, folder / HEAD_WEIGHTS)
    base.describe(folder, msgspec.to_builtins(config))
    return {
        "base": base.name,
        "examples": count,
        "warm_started": start is not None,
        "steps": len(steps),
        "train_loss": round(loss, 4),
        "tokens": config.epochs * sum(map(len, rows)),
        "seconds": round(time.perf_counter() - started, 2),
        "peak_memory": peak_memory(device),
        "device": device.type,
        "seed": seed,
    }


@dataclass(slots=True)
class RewardModel:
    """A loaded reward model; any thread may call it."""

    base: Base
    model: Any
    head: nn.Linear
    max_tokens: int
    batch_tokens: int
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = (ANSWER,)

    @torch.inference_mode()
    def predict(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Return the reward of the answer in the feature `answer`, (n,)."""
        answers = [str(example.features.get(ANSWER, "")) for example in examples]
        texts = [example.text for example in examples]
        rows = _rows(self.base, texts, answers, self.max_tokens)
        out = np.zeros(len(rows), dtype=np.float32)
        for batch in batches([len(row) for row in rows], self.batch_tokens):
            with autocast(self.base.device):
                picked = [rows[at] for at in batch]
                out[batch] = _rewards(self.model, self.head, picked, self.base.device).cpu()
        return out


def load_reward(base: Base, model: Any, folder: Path, config: Adaptation) -> RewardModel:
    """Return the reward model with the head of a folder over `model`."""
    head = _head(base)
    head.load_state_dict(read_weights(folder, HEAD_WEIGHTS))
    head = head.to(base.device).requires_grad_(False)
    return RewardModel(base, model, head, config.max_tokens, config.batch_tokens)


def _head(base: Base) -> nn.Linear:
    head = nn.Linear(base.model.config.hidden_size, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _rows(base: Base, texts: Sequence[str], answers: Sequence[str], limit: int) -> list[list[int]]:
    """Tokens of prompt and answer; the longer of the two is cut first."""
    limit = min(limit, base.model.config.max_position_embeddings)
    return list(
        base.tokenizer(list(texts), list(answers), truncation=True, max_length=limit)["input_ids"]
    )


def _rewards(
    model: Any, head: nn.Linear, rows: Sequence[Sequence[int]], device: torch.device
) -> Tensor:
    """The head's answer to the mean of the hidden states, (n,)."""
    ids = padded(rows, 0)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(row) for row in rows])[:, None]
    mask = on_device(mask, device)
    states = model(
        input_ids=on_device(ids, device), attention_mask=mask.long()
    ).last_hidden_state.float()
    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    with torch.autocast(device.type, enabled=False):
        rewards: Tensor = head(pooled).squeeze(1)
    return rewards

"""LoRA on all linear layers of the encoder (Hu et al. 2021, "LoRA: Low-rank adaptation").

The head starts as the logistic regression on the states of before, so that the adapter learns from
the first step on. The head is not kept: a logistic regression on the new states does better.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from headrace.errors import ModelError
from headrace.model.recipe import Progress
from headrace.model.text.encoder import Encoder, autocast, has_bfloat16, load_encoder, pool
from headrace.model.text.linear import Floats, Integers, Linear, Standard
from headrace.model.text.lora import DROPOUT, WEIGHTS, Lora

WARMUP = 0.06  # of the steps
REPORTED = 16  # steps between reads of the loss on a GPU, which waits for it


@dataclass(frozen=True, slots=True)
class Training:
    """How an adapter is trained; the settings of the recipe, and the epochs of its rule."""

    base: str
    rank: int
    alpha: int
    lora_lr: float
    head_lr: float
    epochs: int
    batch_size: int
    seed: int
    only_b: bool = False  # A stays as it is


@dataclass(frozen=True, slots=True)
class Adapter:
    """LoRA matrices as peft names them, and peft's description of them."""

    lora: Mapping[str, Tensor]
    description: Any
    loss: float = math.nan

    def save(self, folder: Path) -> None:
        """Write what peft would: adapter_model.safetensors and adapter_config.json."""
        save_file(dict(self.lora), folder / WEIGHTS, {"format": "pt"})
        self.description.save_pretrained(folder)

    @classmethod
    def load(cls, folder: Path) -> Adapter:
        from peft import LoraConfig

        if not (folder / WEIGHTS).is_file():
            raise ModelError(f"{folder.name} lacks {WEIGHTS}")
        return cls(load_file(folder / WEIGHTS), LoraConfig.from_pretrained(str(folder)))

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[np.float32]], description: Any) -> Adapter:
        return cls({name: torch.from_numpy(one) for name, one in arrays.items()}, description)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {name: one.numpy() for name, one in self.lora.items()}

    def on(self, encoder: Encoder) -> Encoder:
        """Return the encoder with the adapter merged into it."""
        arrays = {name: value.numpy() for name, value in self.lora.items()}
        return encoder.merged(Lora.of(arrays, self.description.r, self.description.lora_alpha))


def train_adapter(
    tokens: Sequence[Sequence[int]],
    target: Integers,
    sample_weight: Floats,
    start: Standard,
    how: Training,
    parent: Adapter | None,
    progress: Progress,
) -> tuple[Adapter, Standard]:
    """Train on all rows, with AdamW on cross entropy, from the parent's matrices if there are.

    The head that was trained with them is returned, too, to go on from.
    """
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(devices=[0] if device_type == "cuda" else []):
        torch.manual_seed(how.seed)
        encoder = load_encoder(
            how.base,
            dtype=torch.bfloat16 if has_bfloat16() else torch.float32,
            # The backward pass of the fused attention is several times slower on a CPU.
            attn_implementation="sdpa" if device_type == "cuda" else "eager",
        )
        model = _with_lora(encoder, how, parent)
        head, loss = _train(
            model, encoder.device, tokens, target, sample_weight, start, how, progress
        )
    return _adapter_of(model, loss), Standard(start.center, start.scale, head)


def new_adapter(how: Training) -> Adapter:
    """Return matrices before any training: A is random, B is 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        return _adapter_of(_with_lora(load_encoder(how.base), how, None), math.nan)


def _adapter_of(model: Any, loss: float) -> Adapter:
    from peft import get_peft_model_state_dict

    lora = get_peft_model_state_dict(model, save_embedding_layers=False)
    return Adapter(
        {name: value.detach().float().cpu().contiguous() for name, value in lora.items()},
        model.peft_config["default"],
        loss,
    )


def _with_lora(encoder: Encoder, how: Training, parent: Adapter | None) -> Any:
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    config = LoraConfig(r=how.rank, lora_alpha=how.alpha, target_modules="all-linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, at peft
        model: Any = get_peft_model(encoder.model, config)
    if parent is not None:
        set_peft_model_state_dict(model, dict(parent.lora))
    if how.only_b:
        for name, weight in model.named_parameters():
            weight.requires_grad_(weight.requires_grad and ".lora_A." not in name)
    return model.to(encoder.device).eval()  # no dropout inside the encoder


def _train(
    model: Any,
    device: torch.device,
    tokens: Sequence[Sequence[int]],
    target: Integers,
    sample_weight: Floats,
    start: Standard,
    how: Training,
    progress: Progress,
) -> tuple[Linear, float]:
    """Change the model's LoRA matrices; return the head, and the mean of the last losses.

    These are the last quarter of the steps.
    """
    center, scale = (torch.from_numpy(one).to(device) for one in (start.center, start.scale))
    head = nn.Linear(start.linear.weight.shape[1], len(start.linear.bias), device=device)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(start.linear.weight))
        head.bias.copy_(torch.from_numpy(start.linear.bias))
    lora = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": head.parameters(), "lr": how.head_lr}, {"params": lora, "lr": how.lora_lr}],
        fused=True,
    )
    steps = how.epochs * math.ceil(len(tokens) / how.batch_size)
    warmup = WARMUP * steps + 1
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 1 - step / steps)
    )
    wanted = torch.from_numpy(target).to(device)
    counts = torch.from_numpy(sample_weight).float().to(device)
    rng = np.random.default_rng(how.seed)
    losses, step = torch.zeros(steps, device=device), 0
    reported = 1 if device.type == "cpu" else REPORTED
    for _ in range(how.epochs):
        for rows in batches(tokens, how.batch_size, rng):
            with autocast(device, True):
                pooled = pool(model, [tokens[row] for row in rows])
            logits = head(F.dropout((pooled - center) / scale, DROPOUT))
            loss = (F.cross_entropy(logits, wanted[rows], reduction="none") * counts[rows]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses[step] = loss.detach()
            step += 1
            if step % reported == 0 or step == steps:
                progress(step, steps, losses[step - 1].item())
    trained = Linear(head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy())
    return trained, losses[-max(steps // 4, 1) :].mean().item()


def batches(
    tokens: Sequence[Sequence[int]], size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return the rows in batches of like length, in random order."""
    shuffled, out = rng.permutation(len(tokens)), []
    for start in range(0, len(shuffled), 16 * size):
        near = shuffled[start : start + 16 * size]
        near = near[np.argsort([len(tokens[row]) for row in near], kind="stable")]
        out += [near[at : at + size] for at in range(0, len(near), size)]
    return [out[place] for place in rng.permutation(len(out))]

"""LoRA matrices (Hu et al. 2021) on all linear layers of a base: added, trained and kept.

The training loop never waits for the device: batches are copied ahead of their use, and the loss
is read once in `REPORTED` steps.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from headrace.errors import ModelError
from headrace.model import parallel
from headrace.model.base import Base, fast_dtype, read_base
from headrace.model.config import Adaptation
from headrace.model.recipe import Progress

ADAPTER_WEIGHTS = "adapter_model.safetensors"  # as peft calls it
REPORTED = 16
POOL = 32  # batches among which examples of like length are looked for
WARMUP = 0.05  # of the steps
MAX_NORM = 1.0  # of the gradient


def start_of(parent: Path | None, base: Base, config: Adaptation) -> Path | None:
    """Return the parent, if its matrices are of this base and have the same rank and alpha."""
    from peft import LoraConfig

    if parent is None or read_base(parent)["weights"] != base.weights:
        return None
    old = LoraConfig.from_pretrained(str(parent))
    return parent if (old.r, old.lora_alpha) == (config.rank, config.alpha) else None


def adapted(base: Base, config: Adaptation, start: Path | None, exclude: str | None = None) -> Any:
    """Return a peft model over the base: with new matrices, or with those of the folder `start`.

    In a group of processes it takes the base itself, so that no process holds the whole of it.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    inner = base.copy() if parallel.size() == 1 else base.model
    if start is not None:
        with _quiet():
            model: Any = PeftModel.from_pretrained(inner, start, is_trainable=True)
        return _prepared(model, config)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules="all-linear",
        exclude_modules=exclude,
    )
    with _quiet():
        model = get_peft_model(inner, lora)
    lora.base_model_name_or_path = base.name
    return _prepared(model, config)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, at peft
        yield


def _prepared(model: Any, config: Adaptation) -> Any:
    if config.gradient_checkpointing:
        model.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    parallel.place(model, config)
    return _without_copies(model).train(config.gradient_checkpointing)


def _without_copies(model: Any) -> Any:
    """Have peft leave it to `autocast` which dtype the matrices multiply in."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            setattr(module, "cast_input_dtype_enabled", False)  # noqa: B010
    return model


def save_lora(model: Any, folder: Path) -> None:
    """Write the matrices and peft's description of them; of a group the first process does."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    kept = {
        name: parallel.in_one_piece(value).detach().cpu().contiguous()
        for name, value in state.items()
    }
    if not parallel.is_first():
        return
    save_file(kept, folder / ADAPTER_WEIGHTS, {"format": "pt"})
    model.peft_config["default"].save_pretrained(folder)


def load_lora(base: Base, folder: Path) -> Any:
    """Return the base's structure with a version's matrices; weights are shared.

    Raises:
        ModelError: the matrices are missing or do not fit.
    """
    from peft import PeftModel

    try:
        with _quiet():
            model = PeftModel.from_pretrained(base.copy(), folder)
    except Exception as error:
        raise ModelError(f"{folder.name} is no readable artifact: {error}") from None
    return _without_copies(model).get_base_model().eval().requires_grad_(False)


def batches(
    lengths: Sequence[int], budget: int, rng: np.random.Generator | None = None
) -> list[list[int]]:
    """Return rows of like length in batches of at most `budget` tokens, padding included.

    A row that is longer forms its own batch. With `rng` they are in random order.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    pool = max(1, len(lengths))
    if rng is not None:
        pool = max(1, int(POOL * budget / np.mean(lengths)))
    made: list[list[int]] = []
    for start in range(0, len(order), pool):
        batch: list[int] = []
        for row in sorted(order[start : start + pool].tolist(), key=lambda row: lengths[row]):
            if batch and (len(batch) + 1) * lengths[row] > budget:
                made.append(batch)
                batch = []
            batch.append(row)
        made.append(batch)
    return made if rng is None else [made[at] for at in rng.permutation(len(made))]


def epochs(lengths: Sequence[int], config: Adaptation, seed: int) -> list[list[int]]:
    """Return the batches of all epochs."""
    rng = np.random.default_rng(seed)
    return [
        rows for _ in range(config.epochs) for rows in batches(lengths, config.batch_tokens, rng)
    ]


def descend(
    groups: Sequence[Mapping[str, Any]],
    steps: Sequence[Sequence[int]],
    loss_of: Callable[[Sequence[int]], tuple[Tensor, Tensor]],
    config: Adaptation,
    device: torch.device,
    progress: Progress,
) -> float:
    """Minimise the loss over batches of rows with AdamW; return the mean of the last losses.

    `loss_of` returns the weighted sum of losses and the sum of the weights: in a group of processes
    each computes a share of a batch, and the step is that of the whole. The learning rate rises
    over the first steps and falls to 0 by a line.
    """
    optimizer = torch.optim.AdamW(
        [dict(group) for group in groups], config.lr, weight_decay=config.weight_decay, fused=True
    )
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    warmup = 1 + WARMUP * len(steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 1 - step / len(steps))
    )
    total, since, seen = torch.zeros((), device=device), 0, 0.0
    for step, rows in enumerate(steps, 1):
        mine, counts = parallel.share(rows)
        with autocast(device):
            summed, weight = loss_of(mine)
        loss = counts * summed / parallel.added(counts * weight)
        loss.backward()  # type: ignore[no-untyped-call]
        parallel.add_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        total, since = total + loss.detach(), since + 1
        if step % REPORTED == 0 or step == len(steps):
            seen = parallel.added(total).item() / since
            progress(step, len(steps), seen)
            total, since = torch.zeros((), device=device), 0
    return seen


@contextmanager
def autocast(device: torch.device) -> Iterator[None]:
    """Multiply in bfloat16 where that is fast."""
    fast = fast_dtype(device) is torch.bfloat16
    with torch.autocast(device.type, torch.bfloat16, enabled=fast):
        yield


@contextmanager
def seeded(seed: int, device: torch.device, deterministic: bool) -> Iterator[None]:
    """Draw from `seed` inside; with `deterministic` refuse operations that vary from run to run."""
    before = torch.are_deterministic_algorithms_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(deterministic or before)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def on_device(values: Any, device: torch.device) -> Tensor:
    """Return numbers as a tensor, copied to the device without waiting for it."""
    tensor = torch.as_tensor(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes used so far: of the GPU, or of this process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1_024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

"""Several processes that train one model, each on a device of its own.

Each takes a share of every batch, and the gradients are added up. A base that is too large for one
device is sharded: its layers lie in pieces on all devices and are put together when they are
computed (FSDP2: `torch.distributed.fsdp.fully_shard`; Zhao et al. 2023, "PyTorch FSDP"). A process
outside of such a group is a group of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed

from headrace.model.config import Adaptation
from headrace.model.network import default_device

LARGE = 1 / 3  # of a device's memory: weights of this size are sharded


def processes(config: Adaptation) -> int:
    """Return how many train: as it is set, else one for each GPU."""
    return config.processes or max(1, torch.cuda.device_count())


def join() -> None:
    """Become one of the processes that torchrun has started, on its own device."""
    from accelerate import PartialState  # type: ignore[import-untyped]

    PartialState(cpu=default_device() == "cpu")


def leave() -> None:
    """End the group."""
    distributed.destroy_process_group()


def size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes and reports."""
    return size() == 1 or distributed.get_rank() == 0


def share(rows: Sequence[int]) -> tuple[Sequence[int], float]:
    """Return the rows of this process, and how much they count.

    Where there are fewer rows than processes it is a row of another one, which counts 0: all
    processes have to compute the same layers at the same time.
    """
    if size() == 1:
        return rows, 1.0
    mine = rows[distributed.get_rank() :: size()]
    return (mine, 1.0) if mine else (rows[:1], 0.0)


def added(values: Tensor) -> Tensor:
    """Return the sum over all processes."""
    if size() > 1:
        values = values.clone()
        distributed.all_reduce(values)
    return values


def add_gradients(parameters: Sequence[Tensor]) -> None:
    """Add up what the processes found; of sharded weights FSDP has made the mean."""
    if size() > 1:
        for one in parameters:
            assert one.grad is not None
            if _is_sharded(one):
                one.grad.mul_(size())
            else:
                distributed.all_reduce(one.grad)


def place(model: Any, config: Adaptation) -> None:
    """Move a model of transformers, with its LoRA matrices, to the devices of the group.

    Embeddings and the output layer are never cut into pieces: they may be one weight. Nor is an
    encoder, which has no output layer.
    """
    inner = model.get_base_model()
    if _is_large(inner, config):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(default_device(), (size(),))
        kinds = set(inner._no_split_modules or ())
        layers = [one for one in inner.modules() if type(one).__name__ in kinds]
        whole = set(inner.get_input_embeddings().parameters())
        for module in (*layers, inner.base_model):
            fully_shard(module, mesh=mesh, ignored_params=whole)
        inner.get_input_embeddings().to(default_device())
        inner.get_output_embeddings().to(default_device())
    else:
        model.to(default_device())


def in_one_piece(value: Tensor) -> Tensor:
    """Return a weight that may be sharded; all processes have to ask for it."""
    if _is_sharded(value):
        value = value.full_tensor()  # type: ignore[attr-defined]
    return value


def _is_sharded(value: Tensor) -> bool:
    return hasattr(value, "full_tensor")


def _is_large(model: Any, config: Adaptation) -> bool:
    if size() == 1 or config.shard == "never" or model.get_output_embeddings() is None:
        return False
    if config.shard == "always":
        return True
    weights = sum(one.numel() * one.element_size() for one in model.parameters())
    return default_device() == "cuda" and weights > LARGE * torch.cuda.mem_get_info()[1]

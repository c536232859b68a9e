"""A version of the network on disk: its weights and what they belong to.

config.json                  objective, schema, settings, architecture
head.safetensors             all weights
fisher.safetensors           how important each weight is (EWC), where this was asked for
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from headrace.errors import ModelError
from headrace.model.inputs import Schema
from headrace.model.network import WIDE_BUCKETS, Adapter, Head, default_device
from headrace.model.objectives import Objective, objective_of
from headrace.model.recipe import Task

CONFIG = "config.json"
HEAD_WEIGHTS = "head.safetensors"
IMPORTANCE = "fisher.safetensors"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What one fine-tune made, in memory."""

    task: Task
    objective: Objective
    schema: Schema
    finetune: dict[str, Any]  # its settings
    head: dict[str, Tensor]
    columns: int = 1  # in `head`
    fisher: dict[str, Tensor] = field(default_factory=dict)  # empty without EWC
    # examples, steps, seconds, train_loss, warm_started, seed, device
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.objective.labels

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON into the folder, nothing pickled."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.head, folder / HEAD_WEIGHTS, {"format": "pt"})
        if self.fisher:
            save_file(self.fisher, folder / IMPORTANCE, {"format": "pt"})
        config = _architecture() | {
            "task": self.task,
            **self.objective.to_dict(),
            "schema": self.schema.to_dict(),
            "columns": self.columns,
            "finetune": self.finetune,
            "report": self.report,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def load_adapter(folder: Path, device: str | torch.device | None = None) -> Adapter:
    """Load a version.

    Raises:
        ModelError: the artifact is incomplete or of another format.
    """
    config = read_config(folder)
    schema = Schema.from_dict(config["schema"])
    objective = objective_of(config["task"], config)
    head = Head(schema, objective.outputs, config["columns"])
    head.read(read_weights(folder, HEAD_WEIGHTS))
    return Adapter(objective, schema, head, torch.device(device or default_device()))


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json says.

    Raises:
        ModelError: there is none, or this code cannot serve the artifact.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder.name} is no readable artifact: {error}") from None
    config.setdefault("task", "classification")  # the only one at first
    config.setdefault("columns", 1)
    for name, ours in _architecture().items():
        if config.get(name) != ours:
            raise ModelError(f"{folder.name}: {name} must be {ours!r}, got {config.get(name)!r}")
    return config


def read_weights(folder: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """Return the tensors of one of the files; ModelError where it is missing."""
    return load_file(_file(folder, name), device=device)


def _architecture() -> dict[str, Any]:
    """What an artifact and the code that serves it must agree on."""
    return {"format": 1, "wide_buckets": WIDE_BUCKETS}


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ModelError(f"{folder.name} lacks {name}")
    return folder / name

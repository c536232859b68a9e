"""A version of the network on disk: its weights and what they belong to.

config.json                  objective, schema, settings, architecture
head.safetensors             all weights beside those of the text
fisher.safetensors           how important each weight is (EWC), where this was asked for
adapter_model.safetensors    LoRA matrices, of a model that reads text
adapter_config.json          peft's description of them
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headrace.errors import ModelError
from headrace.model import network
from headrace.model.inputs import Schema
from headrace.model.network import (
    ADAPTED,
    FROZEN_LAYERS,
    Adapter,
    Backbone,
    Head,
    default_device,
    lora_config,
)
from headrace.model.objectives import Objective, objective_of
from headrace.model.recipe import Task

CONFIG = "config.json"
HEAD_WEIGHTS = "head.safetensors"
IMPORTANCE = "fisher.safetensors"
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What one fine-tune made, in memory."""

    task: Task
    objective: Objective
    schema: Schema
    finetune: dict[str, Any]  # its settings; `rank` and `alpha` are those of the LoRA matrices
    adapter: dict[str, Tensor]  # LoRA matrices; empty where the model reads no text
    head: dict[str, Tensor]
    fisher: dict[str, Tensor] = field(default_factory=dict)  # empty without EWC
    report: dict[str, Any] = field(
        default_factory=dict
    )  # examples, steps, seconds, train_loss, warm_started, seed, device

    @property
    def labels(self) -> tuple[str, ...]:
        return self.objective.labels

    def save(self, folder: Path) -> None:
        """Write safetensors and JSON into the folder, nothing pickled."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.adapter:
            save_file(self.adapter, folder / ADAPTER_WEIGHTS, {"format": "pt"})
            lora_config(self.finetune["rank"], self.finetune["alpha"]).save_pretrained(folder)
        save_file(self.head, folder / HEAD_WEIGHTS, {"format": "pt"})
        if self.fisher:
            save_file(self.fisher, folder / IMPORTANCE, {"format": "pt"})
        config = _architecture() | {
            "task": self.task,
            **self.objective.to_dict(),
            "schema": self.schema.to_dict(),
            "finetune": self.finetune,
            "report": self.report,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def load_adapter(
    folder: Path, backbone: Backbone | None = None, device: str | torch.device | None = None
) -> Adapter:
    """Load a version. Its device is the backbone's, where it reads text.

    Raises:
        ModelError: the artifact is incomplete or of another format, or it reads text and no
            backbone was given.
    """
    config = read_config(folder)
    schema = Schema.from_dict(config["schema"])
    layers: list[nn.Module] = []
    text_dim = 0
    if schema.has_text:
        if backbone is None:
            raise ModelError(f"{folder.name} reads text: load_adapter needs a backbone, got None")
        layers, text_dim, device = _merged_layers(folder, backbone), backbone.dim, backbone.device
    objective = objective_of(config["task"], config)
    head = Head(schema, objective.outputs, text_dim)
    head.load_state_dict(read_weights(folder, HEAD_WEIGHTS))
    device = torch.device(device or default_device())
    return Adapter(objective, schema, layers, head, backbone if schema.has_text else None, device)


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json says.

    Raises:
        ModelError: there is none, or this code cannot serve the artifact.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder.name} is no readable artifact: {error}") from None
    config.setdefault("backbone_tokens", config.get("trunk_tokens"))  # as it was called first
    config.setdefault("task", "classification")  # the only one at first
    for name, ours in _architecture().items():
        if config.get(name) != ours:
            raise ModelError(f"{folder.name}: {name} must be {ours!r}, got {config.get(name)!r}")
    return config


def read_weights(folder: Path, name: str, device: str = "cpu") -> dict[str, Tensor]:
    """Return the tensors of one of the files; ModelError where it is missing."""
    return load_file(_file(folder, name), device=device)


def _architecture() -> dict[str, Any]:
    """What an artifact and the code that serves it must agree on."""
    return {
        "format": 1,
        "base_model": network.BASE_MODEL,
        "layers": network.LAYERS,
        "frozen_layers": network.FROZEN_LAYERS,
        "backbone_tokens": network.BACKBONE_TOKENS,
        "wide_tokens": network.WIDE_TOKENS,
        "wide_buckets": network.WIDE_BUCKETS,
    }


def _merged_layers(folder: Path, backbone: Backbone) -> list[nn.Module]:
    """Upper layers with the LoRA matrices added into the weights; all others stay shared."""
    config = json.loads(_file(folder, ADAPTER_CONFIG).read_text())
    adapter = read_weights(folder, ADAPTER_WEIGHTS, str(backbone.device))
    scale = config["lora_alpha"] / config["r"]
    layers = list(backbone.copy().encoder.layer)
    for number, layer in enumerate(layers[FROZEN_LAYERS:], FROZEN_LAYERS):
        for name in ADAPTED:
            key = f"base_model.model.encoder.layer.{number}.attention.self.{name}"
            linear = getattr(layer.attention.self, name)
            delta = adapter[f"{key}.lora_B.weight"] @ adapter[f"{key}.lora_A.weight"]
            linear.weight = nn.Parameter(linear.weight + scale * delta, requires_grad=False)
    return layers[FROZEN_LAYERS:]


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise ModelError(f"{folder.name} lacks {name}")
    return folder / name

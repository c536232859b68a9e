"""LoRA matrices as a graph takes them, read from what peft writes; without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from headrace.errors import ModelError

WEIGHTS, DESCRIPTION = "adapter_model.safetensors", "adapter_config.json"
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
DROPOUT = 0.1  # of the pooled states, while an adapter is trained
ROOT = "base_model.model."  # before the names of the base's modules
Floats32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Lora:
    """One adapter: for each linear layer A (inputs, rank) and B (rank, outputs), B scaled."""

    rank: int
    matrices: Mapping[str, tuple[Floats32, Floats32]]

    @classmethod
    def of(cls, arrays: Mapping[str, Floats32], rank: int, alpha: float) -> Lora:
        """Make one of matrices as peft names and shapes them."""
        scale = np.float32(alpha / rank)
        paths = [name.removesuffix(LORA_A) for name in arrays if name.endswith(LORA_A)]
        matrices = {
            path.removeprefix(ROOT): (
                np.ascontiguousarray(arrays[path + LORA_A].T),
                np.ascontiguousarray(arrays[path + LORA_B].T * scale),
            )
            for path in paths
        }
        return cls(rank, matrices)

    @classmethod
    def read(cls, folder: Path) -> Lora:
        """Read a version's adapter.

        Raises:
            ModelError: there is none, or no complete one.
        """
        if not (folder / WEIGHTS).is_file():
            raise ModelError(f"{folder.name} lacks {WEIGHTS}")
        try:
            said = json.loads((folder / DESCRIPTION).read_text())
            return cls.of(load_file(folder / WEIGHTS), said["r"], said["lora_alpha"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(f"{folder.name} is no readable artifact: {error}") from None

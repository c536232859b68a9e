"""A text encoder: token ids in, mean-pooled last states out (Reimers and Gurevych 2019, "SBERT").

This is the encoder that trains. The frozen one is loaded once a process for each base. One with an
adapter has merged copies of the layers that the adapter changes.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.errors import ModelError, one_line
from headrace.model.text.bundled import BUNDLED, bundled
from headrace.model.text.lora import Lora
from headrace.model.text.tokens import batches_of_like_length, padded, tokenize


class Encoder:
    """A frozen model with its tokenizer. Safe to share by threads."""

    def __init__(self, model: Any, tokenizer: Any, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = device
        self.dim: int = model.config.hidden_size

    def tokenize(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """Return the token ids of each text, at most `most` of them, the last one kept."""
        return tokenize(self.tokenizer, texts, most)

    @torch.inference_mode()
    def states(self, tokens: Sequence[Sequence[int]], *, fast: bool = False) -> NDArray[np.float32]:
        """Return the pooled states of all texts, (n, dim); `fast` computes them in bfloat16."""
        out = np.zeros((len(tokens), self.dim), np.float32)
        with autocast(self.device, fast):
            for rows in batches_of_like_length(tokens):
                out[rows] = pool(self.model, [tokens[row] for row in rows]).cpu().numpy()
        return out

    def merged(self, lora: Lora) -> Encoder:
        """Return the same encoder with the products of the matrices added to its weights."""
        shared = {id(weight): weight for weight in self.model.parameters()}
        model = copy.deepcopy(self.model, memo=shared)
        for name, (a, b) in lora.matrices.items():
            linear = model.get_submodule(name)
            delta = torch.from_numpy(b).to(self.device).T @ torch.from_numpy(a).to(self.device).T
            linear.weight = nn.Parameter(linear.weight + delta, requires_grad=False)
        return Encoder(model, self.tokenizer, self.device)


def pool(model: Any, tokens: Sequence[Sequence[int]]) -> Tensor:
    """Return the mean over the tokens of each text's last states, (n, dim) in float32."""
    ids, mask = (torch.from_numpy(one).to(model.device) for one in padded(tokens))
    return pooled_states(model, ids, mask)


def pooled_states(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the same of padded ids, with a mask that is 1 where there is a token."""
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    count = mask.unsqueeze(-1).float()
    pooled: Tensor = (states * count).sum(1) / count.sum(1)
    return pooled


@functools.cache
def shared_encoder(base: str) -> Encoder:
    """Return the encoder of this process; the first call loads it, in a second or two."""
    return load_encoder(base, dtype=torch.float32)


def load_encoder(base: str, **how: Any) -> Encoder:
    """Load a base: "" for the bundled MiniLM, else a folder or the id of a hub.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    where = base or bundled()
    local = Path(where).exists()
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=local).backend_tokenizer
        model = AutoModel.from_pretrained(where, local_files_only=local, **how)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"base: must be a folder or hub id of a text encoder, got {base!r}: {one_line(error)}"
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model.pooler = None  # the states are pooled here
    model.name_or_path = base or BUNDLED  # what adapters are said to belong to
    return Encoder(model, tokenizer, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def has_bfloat16() -> bool:
    """Whether this machine multiplies in bfloat16 faster than in float32."""
    return torch.cuda.is_available() or bool(torch.cpu._is_avx512_bf16_supported())


def autocast(device: torch.device, fast: bool) -> AbstractContextManager[Any]:
    """Multiply in bfloat16 where it is faster."""
    return torch.autocast(device.type, torch.bfloat16, enabled=fast and has_bfloat16())

"""Vectors of texts: a frozen base's pooled states, of unit length.

No adapter is in them, so vectors of all versions and times compare as long as base and tokens stay;
the name of an embedder has both, and a hash of the base's files.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headrace.files import digested
from headrace.model.text.bundled import BUNDLED
from headrace.model.text.served import TextEncoder, base_folder, serving_encoder

# What vectors depend on: weights, their configuration, and the tokenizer.
WEIGHED = frozenset({".safetensors", ".bin", ".json", ".txt", ".model"})


@dataclass(frozen=True, slots=True)
class Embedder:
    """Makes vectors of texts by one base. Any thread may call it.

    Attributes:
        name: base, tokens and content, such as ``all-MiniLM-L6-v2/64/0f3a9c27d1b8``.
        tokens: that are read of a text.
    """

    name: str
    tokens: int
    encoder: TextEncoder

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a vector of unit length of each text, (n, dim)."""
        states = self.encoder.states(self.encoder.tokenize(texts, self.tokens))
        lengths = np.linalg.norm(states, axis=1, keepdims=True)
        return np.asarray(states / lengths.clip(1e-12), np.float32)


@functools.cache
def shared_embedder(base: str, tokens: int) -> Embedder:
    """Return the embedder of this process; the first call loads it.

    It computes in float32, whatever precision serves: the vectors of two precisions differ.

    Raises:
        ModelError: the base cannot be loaded.
    """
    encoder = serving_encoder(base, "float32", None)
    return Embedder(embedder_name(base, tokens), tokens, encoder)


def embedder_name(base: str, tokens: int) -> str:
    """Return the name of a base's embedder; a base of other files has another one."""
    weighed = (
        path for path in base_folder(base).iterdir() if path.is_file() and path.suffix in WEIGHED
    )
    return f"{Path(base or BUNDLED).name}/{tokens}/{digested(weighed)[:12]}"

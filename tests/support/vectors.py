"""An embedder of few dimensions, so that tests need no encoder; and the worker, run to its end."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.engine import Engine
from headrace.model.text.vectors import Embedder
from headrace.vectors import embedder as worker
from headrace.vectors import neighbours
from headrace.vectors.embedder import InputEmbedder

DIM = 16


class Words:
    """Its states count words by their hash: texts that share words are near."""

    def __init__(self, dim: int = DIM) -> None:
        self.dim = dim

    def tokenize(self, texts: Sequence[str], most: int) -> list[list[int]]:
        return [[zlib.crc32(word.encode()) for word in text.split()][:most] for text in texts]

    def states(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        out = np.full((len(tokens), self.dim), 0.01, np.float32)
        for row, words in enumerate(tokens):
            for word in words:
                out[row, word % self.dim] += 1
                out[row, word // self.dim % self.dim] -= 0.5
        return out


def use(patch: pytest.MonkeyPatch, name: str = "words/64/1", dim: int = DIM) -> Embedder:
    """Have worker and look-up use an embedder of words."""
    found = Embedder(name, 64, Words(dim))
    for module in worker, neighbours:
        patch.setattr(module, "embedder_of", lambda *_: found)
    return found


def embed(engine: Engine) -> None:
    """Look at everything that came in."""
    embedder = InputEmbedder(engine)
    assert embedder.lease.renew()
    while embedder.look():
        pass
    embedder.lease.give_back()

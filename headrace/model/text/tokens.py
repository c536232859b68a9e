"""Texts to token ids, and token ids to padded arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.model.text.words import CHARACTERS

BATCH = 64  # texts in one forward pass


def tokenize(tokenizer: Any, texts: Sequence[str], most: int) -> list[list[int]]:
    """Return the token ids of each text, at most `most` of them, the last one kept."""
    encoded = tokenizer.encode_batch([text[:CHARACTERS] for text in texts])
    return [cut(one.ids, most) for one in encoded]


def cut(ids: list[int], most: int) -> list[int]:
    """Return at most `most` of the tokens, the last one kept."""
    return ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]


def batches_of_like_length(tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return all rows, `BATCH` at a time, the shortest first."""
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


def passes_of_like_length(tokens: Sequence[Sequence[int]], most: int) -> list[list[int]]:
    """Return all rows, the longest first, in parts that padded to their longest row hold at most
    `most` tokens, or one row."""
    order = sorted(range(len(tokens)), key=lambda row: -len(tokens[row]))
    passes: list[list[int]] = []
    while order:
        count = max(1, most // max(1, len(tokens[order[0]])))
        passes.append(order[:count])
        order = order[count:]
    return passes


def padded(tokens: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids and mask, both (n, longest): 0 behind a row's end, the mask 1 before it."""
    ids = np.zeros((len(tokens), max(map(len, tokens))), np.int64)
    mask = np.zeros_like(ids)
    for row, one in enumerate(tokens):
        ids[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return ids, mask

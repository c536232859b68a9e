"""The backbone's activations of each text, computed once and kept from run to run."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.model.network import (
    BACKBONE_TOKENS,
    Backbone,
    Hidden,
    load_backbone,
    padded,
)


class ActivationCache:
    """What the backbone made of each text; beyond `limit_bytes` the least recently used go first.

    Kept as float16: 768 bytes a token, at most 37 kB a text.
    """

    def __init__(self, backbone: Backbone, limit_bytes: int = 1 << 30) -> None:
        self.backbone = backbone
        self.limit_bytes = limit_bytes
        self.bytes = 0
        self._kept: OrderedDict[str, tuple[NDArray[np.float16], list[int]]] = OrderedDict()

    def __contains__(self, text: str) -> bool:
        return text in self._kept

    def warm(self, texts: Sequence[str], batch_size: int = 64) -> int:
        """Compute the missing texts, in batches of similar length; return how many those were."""
        missing = list(dict.fromkeys(text for text in texts if text not in self._kept))
        tokens = dict(zip(missing, self.backbone.tokenize(missing), strict=True))
        missing.sort(key=lambda text: len(tokens[text]))
        for start in range(0, len(missing), batch_size):
            chunk = missing[start : start + batch_size]
            hidden = self.backbone.encode_tokens([tokens[text] for text in chunk])
            states = hidden.states.half().cpu().numpy()
            for row, text in enumerate(chunk):
                length = min(len(tokens[text]), BACKBONE_TOKENS)
                self.put(text, states[row, :length].copy(), tokens[text])
        return len(missing)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; texts that are not kept are tokenized, not run."""
        missing = [text for text in texts if text not in self._kept]
        made = dict(zip(missing, self.backbone.tokenize(missing), strict=True))
        return [made[text] if text in made else self._kept[text][1] for text in texts]

    def put(self, text: str, states: NDArray[np.float16], tokens: list[int]) -> None:
        self._kept[text] = (states, tokens)
        self.bytes += states.nbytes
        while self.bytes > self.limit_bytes and len(self._kept) > 1:
            self.bytes -= self._kept.popitem(last=False)[1][0].nbytes

    def hidden(self, texts: Sequence[str]) -> Hidden:
        """The texts as one batch; what is not kept is computed."""
        self.warm(texts)
        got: dict[str, tuple[NDArray[np.float16], list[int]]] = {}
        for text in texts:
            if text not in self._kept:
                self.warm([text])
            self._kept.move_to_end(text)
            got[text] = self._kept[text]
        kept = [got[text] for text in texts]
        longest = max(len(states) for states, _ in kept)
        states = np.zeros((len(kept), longest, self.backbone.dim), dtype=np.float32)
        for row, (one, _) in enumerate(kept):
            states[row, : len(one)] = one
        mask = torch.arange(longest) < torch.tensor([len(one) for one, _ in kept]).unsqueeze(1)
        device = self.backbone.device
        return Hidden(
            torch.from_numpy(states).to(device),
            mask.to(device),
            padded([tokens for _, tokens in kept], 0).to(device),
        )


@functools.cache
def shared_activations() -> ActivationCache:
    """Return the cache of this process."""
    return ActivationCache(shared_backbone())


@functools.cache
def shared_backbone() -> Backbone:
    """Return the backbone of this process; the first call loads it."""
    return load_backbone()

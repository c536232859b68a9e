"""States that several versions want of one encoder, in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.model.text.graph import GraphEncoder, mixed_states
from headrace.model.text.served import TextEncoder
from headrace.model.text.tokens import cut


@dataclass(frozen=True, slots=True)
class States:
    """The pooled states (n, dim) of texts, of which the encoder reads at most `tokens` tokens."""

    encoder: TextEncoder
    texts: Sequence[str]
    tokens: int

    @property
    def network(self) -> object:
        """The graph, which all adapters on a base share; without one, the encoder itself."""
        return self.encoder.graph if isinstance(self.encoder, GraphEncoder) else self.encoder

    def computed(self, others: Sequence[States]) -> list[NDArray[np.float32]]:
        """Compute the states of all; rows of the same text and adapter are one."""
        several = [self, *others]
        ids = self._token_ids(several)
        rows: dict[tuple[int, str, int], int] = {}
        places = [
            [rows.setdefault(one._row(text), len(rows)) for text in one.texts] for one in several
        ]
        owners = {one._row(text): one.encoder for one in several for text in one.texts}
        states = _pass([owners[row] for row in rows], [cut(ids[text], n) for _, text, n in rows])
        return [states[place] for place in places]

    def _row(self, text: str) -> tuple[int, str, int]:
        """What makes one row of a pass."""
        adapter = self.encoder.lora if isinstance(self.encoder, GraphEncoder) else None
        return id(adapter), text, self.tokens

    def _token_ids(self, several: Sequence[States]) -> dict[str, list[int]]:
        """Each text as tokens, of which there are as many as any version reads."""
        texts = list(dict.fromkeys(text for one in several for text in one.texts))
        most = max(one.tokens for one in several)
        return dict(zip(texts, self.encoder.tokenize(texts, most), strict=True))


def _pass(encoders: Sequence[TextEncoder], tokens: Sequence[list[int]]) -> NDArray[np.float32]:
    graphs = [one for one in encoders if isinstance(one, GraphEncoder)]
    return mixed_states(graphs, tokens) if graphs else encoders[0].states(tokens)

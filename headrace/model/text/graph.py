"""The encoder as a graph of ONNX Runtime: one session serves a base and all adapters on it.

The matrices of LoRA are inputs of the graph. The adapters of a batch lie side by side in them, and
`columns` says for each row which of them count (n, ranks):

    y = W x + B (columns * (A x))

So rows of different versions are one forward pass, and the frozen encoder is that without columns.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ModelError
from headrace.model.text.lora import Floats32, Lora
from headrace.model.text.tokens import padded, passes_of_like_length, tokenize

Precision = Literal["float32", "int8"]
TOKENIZER, FACTS = "tokenizer.json", "graph.json"
IDS, MASK, COLUMNS, STATES = "input_ids", "attention_mask", "columns", "states"
SIDES = ("A", "B")
LARGEST = 1e10  # number of an adapter
TOKENS = 512  # of a pass, padding included


def matrix_input(linear: str, side: str) -> str:
    """The name of the graph's input for a matrix of a linear layer."""
    return f"{linear}.{side}"


class Graph:
    """An exported encoder in a session. Any thread may call it.

    Attributes:
        path: of its file.
        dim: of a state.
        linears: names of the layers that an adapter may change, with their inputs and outputs.
    """

    def __init__(self, folder: Path, precision: Precision) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        facts = json.loads((folder / FACTS).read_text())
        self.path = folder / f"{precision}.onnx"
        self.dim: int = facts["dim"]
        self.linears: dict[str, tuple[int, int]] = {
            name: (inputs, outputs) for name, (inputs, outputs) in facts["linears"].items()
        }
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        # Threads that spin while they wait take the processor from the rest of the process.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(self.path), options, providers=["CPUExecutionProvider"]
        )
        # A layer that no state depends on has no inputs.
        self._inputs = {one.name for one in self._session.get_inputs()}

    def check(self, lora: Lora) -> None:
        """Refuse an adapter of layers that the graph has no inputs for, and numbers too large.

        What a row has of another's adapter is multiplied by 0, which leaves no trace of finite
        numbers only. The runtime hides others: its softmax makes numbers of NaN.

        Raises:
            ModelError: it names one of the layers.
        """
        for name, (a, b) in lora.matrices.items():
            inputs, outputs = self.linears.get(name, (0, 0))
            wanted, got = ((inputs, lora.rank), (lora.rank, outputs)), (a.shape, b.shape)
            if wanted != got:
                raise ModelError(f"adapter: {name} must have the shapes {wanted}, got {got}")
            for matrix in (a, b):
                if not (largest := np.abs(matrix).max(initial=0)) <= LARGEST:
                    raise ModelError(
                        f"adapter: {name} must hold numbers up to {LARGEST:g}, got {largest}"
                    )

    def states(
        self, tokens: Sequence[Sequence[int]], adapters: Sequence[Lora | None]
    ) -> NDArray[np.float32]:
        """Return the pooled states of all rows, (n, dim), each with its adapter.

        Rows of like length are a pass of at most TOKENS tokens: what a larger one computes no
        longer fits a processor's caches.
        """
        out = np.zeros((len(tokens), self.dim), np.float32)
        for rows in passes_of_like_length(tokens, TOKENS):
            ids, mask = padded([tokens[row] for row in rows])
            feeds = {IDS: ids, MASK: mask, **self._side_by_side([adapters[row] for row in rows])}
            out[rows] = self._session.run([STATES], feeds)[0]
        return out

    def _side_by_side(self, adapters: Sequence[Lora | None]) -> dict[str, Floats32]:
        """The matrices of the distinct adapters, and which columns of them each row reads."""
        distinct = list(dict.fromkeys(one for one in adapters if one is not None))
        owner = np.repeat(np.arange(len(distinct)), [one.rank for one in distinct])
        place = {one: at for at, one in enumerate(distinct)}
        own = np.array([-1 if one is None else place[one] for one in adapters])
        feeds = {COLUMNS: (own[:, None] == owner).astype(np.float32)}
        for name, (inputs, outputs) in self.linears.items():
            if matrix_input(name, "A") not in self._inputs:
                continue
            pairs = [one.matrices.get(name) or _nothing(inputs, outputs, one) for one in distinct]
            pairs = pairs or [_nothing(inputs, outputs, None)]
            for axis, side in enumerate(SIDES):
                several = [pair[axis] for pair in pairs]
                feeds[matrix_input(name, side)] = (
                    several[0] if len(several) == 1 else np.concatenate(several, axis=1 - axis)
                )
        return feeds

    def constants(self, lora: Lora | None) -> Mapping[str, Floats32]:
        """The inputs beside ids and mask when every row has the same adapter."""
        return self._side_by_side([lora])


def _nothing(inputs: int, outputs: int, lora: Lora | None) -> tuple[Floats32, Floats32]:
    rank = lora.rank if lora else 0
    return np.zeros((inputs, rank), np.float32), np.zeros((rank, outputs), np.float32)


@dataclass(frozen=True, slots=True)
class GraphEncoder:
    """A graph with the adapter of a version, or none."""

    graph: Graph
    lora: Lora | None = None

    def __post_init__(self) -> None:
        if self.lora is not None:
            self.graph.check(self.lora)

    def tokenize(self, texts: Sequence[str], most: int) -> list[list[int]]:
        """Return the token ids of each text, at most `most` of them, the last one kept."""
        return tokenize(self.graph.tokenizer, texts, most)

    def states(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the pooled states of all texts, (n, dim)."""
        return self.graph.states(tokens, [self.lora] * len(tokens))


def mixed_states(encoders: Sequence[GraphEncoder], tokens: Sequence[Any]) -> NDArray[np.float32]:
    """Return the states (n, dim) of rows of several encoders of one graph, in one forward pass."""
    graphs = {id(one.graph): one.graph for one in encoders}
    if len(graphs) > 1:
        raise ModelError(f"encoders: must share one graph, got {len(graphs)}")
    (graph,) = graphs.values()
    return graph.states(tokens, [one.lora for one in encoders])

"""Exports an encoder to ONNX, once for each base, into the cache.

FOLDER/float32.onnx     ids, mask and the matrices of LoRA in, pooled states out
       int8.onnx        the same with linear layers in 8 bits
       tokenizer.json
       graph.json       the size of a state, and the layers that have inputs for LoRA

An export is used once its states equal those of torch. It is made in a process of its own
(``python -m headrace.model.text.export BASE FOLDER``): torch is not needed by those that serve.
"""

from __future__ import annotations

import copy
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from headrace.errors import ModelError
from headrace.files import folder_once
from headrace.model.text.encoder import Encoder, load_encoder, pooled_states
from headrace.model.text.graph import (
    COLUMNS,
    FACTS,
    IDS,
    MASK,
    SIDES,
    STATES,
    TOKENIZER,
    Graph,
    matrix_input,
)  # fmt: skip
from headrace.model.text.lora import Lora
from headrace.model.text.quantise import quantise
from headrace.model.text.tokens import padded, tokenize

OPSET = 20  # the newest that torch's exporter by tracing knows
EQUAL = 1e-4  # largest difference of a state from torch's, as a share of the largest above 1
RANK = 2  # of the matrices that the export is made with; those of versions may have any
# Texts of many kinds: which channels of a base are large depends little on what it reads.
TEXTS = (
    "The train to the coast was late again, so we waited an hour in the rain.",
    "A buffer overflow in the parser lets a remote attacker run code.",
    "How do I cancel my plan? I was charged twice last month!",
    "Revenue rose 12% to $3.4 million in the third quarter of 2023.",
    "def f(x): return x * 2  # doubles a number",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "Please find attached the invoice no. 20-1147, due on 1 May.",
    "This film is wonderful: funny, sad and never boring.",
)


def export(base: str, folder: Path) -> None:
    """Write the graphs of a base, with its tokenizer, into `folder`, whole or not at all.

    Raises:
        ModelError: the base cannot be exported, or its graph computes something else.
    """
    # The usual attention is traced with a guard against rows without tokens, which takes time.
    encoder = load_encoder(base, dtype=torch.float32, attn_implementation="eager")
    encoder = Encoder(encoder.model, encoder.tokenizer, torch.device("cpu"))
    with folder_once(folder) as draft:
        traced = _Traced(copy.deepcopy(encoder.model)).eval()
        facts = {"dim": encoder.dim, "linears": traced.shapes}
        (draft / FACTS).write_text(json.dumps(facts, indent=2) + "\n")
        encoder.tokenizer.save(str(draft / TOKENIZER))
        _write(traced, draft / "float32.onnx")
        _quantise(draft)
        _check(encoder, Graph(draft, "float32"))


class _Traced(nn.Module):
    """An encoder whose linear layers add what the matrices of LoRA give."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        linears = [name for name, one in model.named_modules() if isinstance(one, nn.Linear)]
        self.layers = {}
        for name in linears:
            self.layers[name] = layer = _WithInputs(model.get_submodule(name))
            model.set_submodule(name, layer)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        return {
            name: (one.linear.in_features, one.linear.out_features)
            for name, one in self.layers.items()
        }

    def forward(self, ids: Tensor, mask: Tensor, columns: Tensor, *matrices: Tensor) -> Tensor:
        for at, layer in enumerate(self.layers.values()):
            layer.given = (columns.unsqueeze(1), *matrices[2 * at : 2 * at + 2])
        return pooled_states(self.model, ids, mask)


class _WithInputs(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        self.given: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        columns, a, b = self.given
        out: Tensor = self.linear(x) + ((x @ a) * columns) @ b
        return out


def _write(traced: _Traced, path: Path) -> None:
    ids = torch.arange(10).reshape(2, 5) + 1
    mask = torch.ones_like(ids)
    mask[0, 3:] = 0  # a mask of ones may be left out of the graph
    names, matrices = [], []
    axes = {IDS: {0: "rows", 1: "tokens"}, MASK: {0: "rows", 1: "tokens"}}
    axes |= {COLUMNS: {0: "rows", 1: "ranks"}, STATES: {0: "rows"}}
    for linear, (inputs, outputs) in traced.shapes.items():
        for axis, (side, shape) in enumerate(
            zip(SIDES, ((inputs, RANK), (RANK, outputs)), strict=True)
        ):
            names.append(matrix_input(linear, side))
            matrices.append(torch.randn(shape))
            axes[names[-1]] = {1 - axis: "ranks"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `_check` sees whether the trace is right
        torch.onnx.export(
            traced,
            (ids, mask, torch.ones(len(ids), RANK), *matrices),
            str(path),
            input_names=[IDS, MASK, COLUMNS, *names],
            output_names=[STATES],
            dynamic_axes=axes,
            opset_version=OPSET,
            # The exporter of torch.export takes ten times as long, for the same graph.
            dynamo=False,
        )


def _quantise(draft: Path) -> None:
    """Write the graph with 8-bit weights, by what TEXTS are like in it."""
    graph = Graph(draft, "float32")
    texts = [" ".join(TEXTS[at:] + TEXTS[:at]) for at in range(len(TEXTS))]
    ids, mask = padded(tokenize(graph.tokenizer, texts, most=128))
    feeds = {IDS: ids, MASK: mask, **graph.constants(None)}
    quantise(draft / "float32.onnx", draft / "int8.onnx", feeds)


def _check(encoder: Encoder, graph: Graph) -> None:
    """Compare with torch: alone and together, frozen and adapted, on lengths of all kinds."""
    rng = np.random.default_rng(0)
    matrices = {}
    for name, (inputs, outputs) in graph.linears.items():
        a, b = rng.normal(size=(inputs, RANK)), rng.normal(size=(RANK, outputs))
        matrices[name] = ((a / 10 / inputs**0.5).astype(np.float32), b.astype(np.float32))
    lora = Lora(RANK, matrices)
    texts = ["", "one", "some words more", "many words " * 40]
    tokens = encoder.tokenize(texts, 32)
    frozen, adapted = encoder.states(tokens), encoder.merged(lora).states(tokens)
    alone = np.concatenate([graph.states([one], [None]) for one in tokens])
    mixed = graph.states([*tokens, *tokens], [*[None] * len(tokens), *[lora] * len(tokens)])
    wanted = np.concatenate([frozen, frozen, adapted])
    apart = float(np.abs(np.concatenate([alone, mixed]) - wanted).max())
    allowed = EQUAL * max(1.0, float(np.abs(wanted).max()))
    if not apart <= allowed:
        raise ModelError(f"export: states must differ by {allowed:.2g} at most, got {apart:.2g}")


if __name__ == "__main__":
    try:
        export(sys.argv[1], Path(sys.argv[2]))
    except ModelError as error:
        sys.exit(str(error))

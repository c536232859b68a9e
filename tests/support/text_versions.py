"""Text classifiers of random weights on one graph, which nobody had to train."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.model.inputs import Example
from headrace.model.text.graph import Graph, GraphEncoder
from headrace.model.text.linear import Linear, Standard
from headrace.model.text.lora import Lora
from headrace.model.text.version import TextClassifier
from headrace.model.text.words import Words

WORDS = ["goat", "house", "Überfluss", "x1", "."]


def random_lora(graph: Graph, seed: int, rank: int, each: int = 1) -> Lora:
    """An adapter of every so many layers."""
    rng = np.random.default_rng(seed)
    matrices = {}
    for name, (inputs, outputs) in list(graph.linears.items())[::each]:
        a, b = rng.normal(size=(inputs, rank)), rng.normal(size=(rank, outputs))
        matrices[name] = ((a / 10 / inputs**0.5).astype(np.float32), b.astype(np.float32))
    return Lora(rank, matrices)


def random_version(
    graph: Graph, seed: int, labels: Sequence[str] = ("no", "yes"), rank: int = 0, tokens: int = 64
) -> TextClassifier:
    """A version without an adapter, or with one of a rank."""
    rng = np.random.default_rng(seed)
    words = Words.fit([Example(" ".join(WORDS))])

    def linear(inputs: int) -> Linear:
        weight = rng.normal(size=(len(labels), inputs)) / inputs**0.5
        return Linear(weight.astype(np.float32), rng.normal(size=len(labels)).astype(np.float32))

    center = (rng.normal(size=graph.dim) / 10).astype(np.float32)
    states = Standard(center, np.full(graph.dim, 0.3, np.float32), linear(graph.dim))
    return TextClassifier(
        tuple(labels),
        (),
        tokens,
        {"words": 0.4, "adapter" if rank else "embedding": 0.9},
        words,
        linear(len(words.idf)),
        GraphEncoder(graph, random_lora(graph, seed, rank) if rank else None),
        states,
        None,
        linear(graph.dim),
    )

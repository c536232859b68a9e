"""What answers texts: torch or ONNX Runtime, in float32 or int8, and several adapters in a batch.

All take turns on the same texts, so that a busy machine slows all of them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.report import say, table
from headrace.demo.stream import reports
from headrace.engine import Engine
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.model.text.encoder import shared_encoder
from headrace.model.text.graph import Graph, GraphEncoder, mixed_states
from headrace.model.text.lora import Lora
from headrace.model.text.served import TextEncoder, exported
from headrace.model.text.version import load
from headrace.trainer.recipes import text_classifier

LEARN, TEST = 1_000, 500
BATCHES = (1, 64)
TURNS = 15


def run(_: Engine, quick: bool) -> str:
    """Return both tables as Markdown."""
    learn, test = (300, 100) if quick else (LEARN, TEST)
    rows = [(Example(row["text"]), row["technical_impact"]) for row in reports()[: learn + test]]
    train = [TrainingExample(example, label) for example, label in rows[:learn]]
    asked = [example for example, _ in rows[learn:]]
    with TemporaryDirectory() as folder:
        say(f"training on {learn} reports")
        config = text_classifier.Config(adapter="always", epochs=1)
        dataset = TrainingSet("m", "classification", train)
        report = text_classifier.fit(dataset, None, config, lambda *_: None, Path(folder))
        version, lora = load(Path(folder)), Lora.read(Path(folder))
    graphs = {one: Graph(exported(""), one) for one in ("float32", "int8")}  # type: ignore[arg-type]
    encoders: dict[str, TextEncoder] = {
        "torch": shared_encoder("").merged(lora),
        **{name: GraphEncoder(graph, lora) for name, graph in graphs.items()},
    }
    answers = {
        name: replace(version, encoder=encoder).predict(asked) for name, encoder in encoders.items()
    }
    say("timing")
    tokens = version.encoder.tokenize([one.text for one in asked], config.tokens)
    return (
        "# Encoders\n\n"
        f"A version that learned {learn:,} of the demo's reports, with an adapter of rank "
        f"{config.rank}; {torch.get_num_threads()} threads. Int8: {report['int8']}.\n\n"
        f"Time of a batch as a share of torch's, medians of {TURNS} turns; "
        f"{config.tokens} tokens at most.\n\n"
        + _times(graphs, lora, tokens, 3 if quick else TURNS)
        + f"\nAnswers to the next {len(asked):,} reports, against torch's:\n\n"
        + table(
            ("served by", "largest move of a probability", "other answers"),
            [
                (
                    f"ONNX Runtime, {name}",
                    f"{np.abs(answers[name] - answers['torch']).max():.1g}",
                    int((answers[name].argmax(1) != answers["torch"].argmax(1)).sum()),
                )
                for name in graphs
            ],
        )
    )


def _times(
    graphs: dict[str, Graph], lora: Lora, tokens: Sequence[Sequence[int]], turns: int
) -> str:
    exact = graphs["float32"]
    # Three adapters of the same sizes: what they hold does not change what they cost.
    three = [GraphEncoder(exact, Lora(lora.rank, dict(lora.matrices))) for _ in range(3)]
    merged = shared_encoder("").merged(lora)
    ways: dict[str, Callable[[Any], object]] = {
        "torch, adapter merged": merged.states,
        "ONNX Runtime, float32, no adapter": GraphEncoder(exact).states,
        "ONNX Runtime, float32, adapter": GraphEncoder(exact, lora).states,
        "ONNX Runtime, int8, adapter": GraphEncoder(graphs["int8"], lora).states,
        "three versions, one pass": lambda rows: mixed_states(
            [three[at % 3] for at in range(len(rows))], rows
        ),
        "three versions, a pass for each": lambda rows: [
            three[at].states(rows[at::3]) for at in range(min(3, len(rows)))
        ],
    }
    took: dict[tuple[str, int], list[float]] = defaultdict(list)
    for turn in range(turns + 1):
        for size in BATCHES:
            start = turn * size % (len(tokens) - size)
            for name, way in ways.items():
                began = time.perf_counter()
                way(tokens[start : start + size])
                if turn:  # the first one warms up
                    took[name, size].append(time.perf_counter() - began)
    usual = {size: np.median(took["torch, adapter merged", size]) for size in BATCHES}
    return table(
        ("", *(f"{size} text{'s' * (size > 1)}" for size in BATCHES)),
        [
            (name, *(f"{np.median(took[name, size]) / usual[size]:.2f}" for size in BATCHES))
            for name in ways
        ],
    )

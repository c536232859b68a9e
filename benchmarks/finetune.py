"""Cost of one fine-tune, relative to the minimum: its texts once through the encoder."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from headrace.demo.stream import reports
from headrace.engine import Engine
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.model.text.encoder import shared_encoder
from headrace.trainer.recipes import text_classifier

EXAMPLES = 5_000


def run(_: Engine) -> str:
    """Return the table as Markdown."""
    train = [
        TrainingExample(
            Example(row["text"], row["source"], {"characters": len(row["text"])}),
            row["technical_impact"],
        )
        for row in reports()[:EXAMPLES]
    ]
    dataset = TrainingSet("m", "classification", train)
    config = text_classifier.Config()
    encoder = shared_encoder(config.base)
    texts = [one.example.text for one in train[: config.text_examples]]
    began = time.perf_counter()
    encoder.states(encoder.tokenize(texts, config.tokens), fast=True)
    once = time.perf_counter() - began
    rows = [f"| these texts once through the encoder | {once:.1f} | 1.0 |"]
    for adapter in ("never", "always"):
        chosen = text_classifier.Config(adapter=adapter)
        with TemporaryDirectory() as folder:
            began = time.perf_counter()
            text_classifier.fit(dataset, None, chosen, lambda *_: None, Path(folder))
            took = time.perf_counter() - began
        rows.append(f'| fine-tune, `adapter = "{adapter}"` | {took:.1f} | {took / once:.1f} |')
    where = "CUDA" if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    return (
        f"# Fine-tune\n\n{len(train):,} examples, {len(texts):,} read by the adapter; "
        f"{config.tokens} tokens; {where}.\n\n"
        "| | seconds | ratio |\n|---|---:|---:|\n" + "\n".join(rows) + "\n"
    )

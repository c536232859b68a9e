"""Cost of one fine-tune, relative to the minimum: one pass of its texts through the layers."""

from __future__ import annotations

import time

import torch

from headrace.demo.stream import reports
from headrace.engine import Engine
from headrace.model.activations import ActivationCache
from headrace.model.config import FinetuneConfig
from headrace.model.finetune import finetune
from headrace.model.inputs import Example
from headrace.model.network import BACKBONE_TOKENS, LAYERS, load_backbone
from headrace.model.recipe import TrainingExample

EXAMPLES = 6_000


def run(_: Engine) -> str:
    """Return the table as Markdown."""
    rows = reports()[:EXAMPLES]
    train = [
        TrainingExample(
            Example(row["text"], row["source"], {"characters": len(row["text"])}),
            row["technical_impact"],
        )
        for row in rows
    ]
    backbone = load_backbone()
    cache = ActivationCache(backbone)
    texts = [one.example.text for one in train[: FinetuneConfig().text_examples]]
    began = time.perf_counter()
    cache.warm(texts)
    warm = time.perf_counter() - began
    cache = ActivationCache(backbone)
    cold = finetune(train, cache=cache).report
    again = finetune(train, cache=cache).report
    where = "CUDA" if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    return (
        f"# Fine-tune\n\n{len(train):,} examples, {len(texts):,} read by the adapted layer; "
        f"{LAYERS} layers, {BACKBONE_TOKENS} tokens; {where}.\n\n"
        "| | seconds | ratio |\n|---|---:|---:|\n"
        f"| frozen layers, one pass over these texts | {warm:.1f} | 1.0 |\n"
        f"| fine-tune, nothing cached | {cold['seconds']:.1f} | {cold['seconds'] / warm:.1f} |\n"
        f"| fine-tune, activations cached | {again['seconds']:.1f} | "
        f"{again['seconds'] / warm:.1f} |\n"
    )

"""Whether a version is served with weights in 8 bits: where its answers stay as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from headrace.model.inputs import Example
from headrace.model.text.graph import GraphEncoder, Precision
from headrace.model.text.lora import Lora
from headrace.model.text.served import shared_graph
from headrace.model.text.version import has_adapter, load, read_config


def choose_precision(
    folder: Path, examples: Sequence[Example], tolerance: float, changed: float
) -> tuple[Precision, str]:
    """Compare the answers of a version in both precisions; return which one serves, and why.

    `tolerance` is the most that a probability may move, `changed` the largest share of examples
    whose most probable label may be another one.
    """
    if not tolerance:
        return "float32", "not tried, as it is declared"
    if not examples:
        return "float32", "not tried: no held-out examples"
    config = read_config(folder)
    lora = Lora.read(folder) if has_adapter(config) else None
    exact, coarse = (shared_graph(config["base"], one) for one in ("float32", "int8"))
    if exact is None or coarse is None:
        return "float32", "not tried: the base was not exported"
    loaded = load(folder)
    wanted, got = (
        replace(loaded, encoder=GraphEncoder(graph, lora)).predict(examples)
        for graph in (exact, coarse)
    )
    moved = float(np.abs(wanted - got).max())
    other = int((wanted.argmax(1) != got.argmax(1)).sum())
    serves = moved <= tolerance and other <= changed * len(examples)
    said = (
        f"{'served' if serves else 'not served'}: a probability moves by {moved:.4f} at most "
        f"(allowed: {tolerance:g}), {other} of {len(examples)} answers change "
        f"(allowed: {changed:.1%})"
    )
    return ("int8" if serves else "float32"), said

"""One online step of the network: its head learns from a few examples, everything below stays.

It is a proximal step over the last layer and over those word weights that occur in the examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from headrace.events.labels import class_of
from headrace.model.network import Adapter, HeadInputs
from headrace.model.proximal import proximal_step
from headrace.model.recipe import TrainingExample
from headrace.model.weights import HEAD_WEIGHTS, load_adapter


def head_step(
    parent: Path, examples: Sequence[TrainingExample], folder: Path, *, rate: float, steps: int
) -> dict[str, Any]:
    """Write the parent with a head that has learned `examples` into `folder`; all but the head is
    to be there already. Examples of a label that it does not know are left out.
    """
    adapter = load_adapter(parent)
    columns = {class_of(label): column for column, label in enumerate(adapter.labels)}
    known = [one for one in examples if class_of(one.label) in columns]
    state = adapter.head.state_dict()
    loss = 0.0
    if known:
        loss = _learn(adapter, known, columns, rate, steps, state)
    (folder / HEAD_WEIGHTS).unlink(missing_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(weights, folder / HEAD_WEIGHTS, {"format": "pt"})
    return {"examples": len(known), "left_out": len(examples) - len(known), "loss": round(loss, 4)}


def _learn(
    adapter: Adapter,
    known: Sequence[TrainingExample],
    columns: dict[str, int],
    rate: float,
    steps: int,
    state: dict[str, torch.Tensor],
) -> float:
    """Move the last layer and the wide weights in `state`; return the loss after that."""
    read = [one.example for one in known]
    target = torch.tensor([columns[class_of(one.label)] for one in known], device=adapter.device)
    weight = torch.tensor([one.weight for one in known], device=adapter.device)
    with torch.no_grad():
        inputs = HeadInputs.of(adapter.schema, read, adapter.device)
        deep = adapter.head.below(inputs)
    used, place = torch.unique(inputs.wide.clamp_min(0), return_inverse=True)
    share = inputs.share.unsqueeze(-1)

    def logits(weights: Sequence[torch.Tensor]) -> torch.Tensor:
        wide, bias, out, out_bias = weights
        return (wide[place] * share).sum(1) + bias + F.linear(deep, out, out_bias)

    before = [state["wide"][used], state["wide"][-1], state["out.weight"], state["out.bias"]]
    now, loss = proximal_step(before, logits, target, weight, rate=rate, steps=steps)
    state["wide"] = state["wide"].clone()
    state["wide"][used], state["wide"][-1] = now[0], now[1]
    state["out.weight"], state["out.bias"] = now[2], now[3]
    return loss

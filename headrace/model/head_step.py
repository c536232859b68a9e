"""One online step of the network: its head learns from a few examples, everything below stays.

A step minimises the mean cross entropy over the new and the replayed examples plus the squared
distance to the weights of before (a proximal step), by Adam over the last layer and over those
word weights that occur in the examples.
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
from headrace.model.recipe import TrainingExample
from headrace.model.weights import HEAD_WEIGHTS, load_adapter

NEARNESS = 0.01  # what a weight pays for the square of its move


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
    before = [state["wide"][used], state["wide"][-1], state["out.weight"], state["out.bias"]]
    now = [one.detach().clone().requires_grad_() for one in before]
    optimizer = torch.optim.Adam(now, lr=rate)
    share = inputs.share.unsqueeze(-1)
    for _ in range(steps):
        wide, bias, out, out_bias = now
        logits = (wide[place] * share).sum(1) + bias + F.linear(deep, out, out_bias)
        each = F.cross_entropy(logits.float(), target, reduction="none")
        moved = sum(((a - b) ** 2).sum() for a, b in zip(now, before, strict=True))
        loss = (each * weight).sum() / weight.sum() + NEARNESS * moved / len(known)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        state["wide"] = state["wide"].clone()
        state["wide"][used] = now[0]
        state["wide"][-1] = now[1]
        state["out.weight"], state["out.bias"] = now[2], now[3]
    return float(((each * weight).sum() / weight.sum()).detach())

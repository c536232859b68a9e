"""One online step of a text classifier: a linear correction learns, the stack stays.

The correction ``W z + b`` is added to the stack's logits; z are the standardised states of the
encoder. It is learned by a proximal step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from headrace.events.labels import class_of
from headrace.model.proximal import proximal_step
from headrace.model.recipe import TrainingExample
from headrace.model.text.linear import Linear
from headrace.model.text.version import load, save_correction


def correct(
    parent: Path, examples: Sequence[TrainingExample], folder: Path, *, rate: float, steps: int
) -> dict[str, Any]:
    """Write the parent with a correction that has learned `examples` into `folder`; all else is to
    be there already. Examples of a label that it does not know are left out.
    """
    version = load(parent)
    columns = {class_of(label): column for column, label in enumerate(version.labels)}
    known = [one for one in examples if class_of(one.label) in columns]
    left_out = len(examples) - len(known)
    if not known:
        save_correction(version.correction, folder)
        return {"examples": 0, "left_out": left_out, "loss": 0.0}
    logs, states = map(torch.from_numpy, version.stacked([one.example for one in known]))
    logs = logs.float()
    target = torch.tensor([columns[class_of(one.label)] for one in known])
    weight = torch.tensor([one.weight for one in known])
    before = [torch.from_numpy(one) for one in version.correction.tensors().values()]
    now, said = proximal_step(
        before,
        lambda weights: logs + F.linear(states, *weights),
        target,
        weight,
        rate=rate,
        steps=steps,
    )
    save_correction(Linear(*(one.numpy() for one in now)), folder)
    return {"examples": len(known), "left_out": left_out, "loss": round(said, 4)}

"""One fine-tune of the network over tables: labelled examples in, an artifact out.

The wide part is fitted first, by LBFGS; then AdamW trains what the deep part adds to its held-out
logits, until examples that are set apart gain no more. The same code runs on CPU and on CUDA.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import asdict
from torch import Tensor
from torch.nn import functional as F

from headrace.errors import ModelError
from headrace.events.labels import class_of
from headrace.model.config import FinetuneConfig
from headrace.model.ewc import Anchor, fisher, summed
from headrace.model.inputs import Schema
from headrace.model.network import WIDE_BUCKETS, Head, HeadInputs, default_device
from headrace.model.objectives import Classes, Objective, first_objective, objective_of
from headrace.model.recipe import Progress, Task, TrainingExample
from headrace.model.stopping import LOOKS, Best, set_apart
from headrace.model.weights import (
    HEAD_WEIGHTS,
    IMPORTANCE,
    Artifact,
    read_config,
    read_weights,
)
from headrace.model.wide import fit_wide, held_out_logits

FISHER_EXAMPLES = 256


def finetune(
    train: Sequence[TrainingExample],
    parent: Path | None = None,
    config: FinetuneConfig | None = None,
    *,
    task: Task = "classification",
    progress: Progress | None = None,
    seed: int = 0,
) -> Artifact:
    """Learn from `train`, starting from `parent` where its task, labels and features still fit.

    Raises:
        ValueError: no examples, or a single label and no parent that knows others.
    """
    config = config or FinetuneConfig()
    started = time.perf_counter()
    objective, schema, warm = _start(train, parent, task)
    device = torch.device(default_device())
    target = objective.targets(train).to(device)
    weight = torch.tensor([one.weight for one in train], device=device, dtype=torch.float32)
    weight /= weight.mean()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        head, grown = _head(parent if warm else None, objective, schema, config)
        inputs = HeadInputs.of(schema, [one.example for one in train], torch.device("cpu"))
        if grown or not warm:
            head.know_nothing_but(inputs.names)
        head = head.to(device)
        offset = _fit_wide(inputs, head, objective, target, weight, config, seed)
        adapted = head.adapted()
        held = warm and parent and config.ewc and not grown
        before = _importance(parent, device) if parent and held else {}
        anchor = Anchor(adapted, before, config.ewc) if before else None
        apart = set_apart([one.label for one in train], config.stop_share, seed)
        data = (inputs, target, weight, offset)
        losses = _fit_deep(head, objective, data, apart, anchor, config, progress, seed)
        head.seen.learn(inputs.numbers.to(device), inputs.names.to(device))
        importance = {}
        if config.ewc:
            losses_of = _drawn_losses(head, inputs, objective, target, offset)
            importance = summed(fisher(losses_of, adapted, len(train)), before)

    return Artifact(
        task=task,
        objective=objective,
        schema=schema,
        finetune=asdict(config),
        head=_to_cpu(head.state_dict()),
        columns=len(head.columns),
        fisher=_to_cpu(importance),
        report={
            "examples": len(train),
            "steps": len(losses),
            "train_loss": round(float(np.mean(losses[-len(losses) // 4 :])), 4),
            "warm_started": warm,
            "held_in_place": anchor is not None,
            "columns": len(head.columns),
            "seed": seed,
            "device": device.type,
            "seconds": round(time.perf_counter() - started, 2),
        },
    )


def _start(
    train: Sequence[TrainingExample], parent: Path | None, task: Task
) -> tuple[Objective, Schema, bool]:
    """The objective and the schema to learn with, and whether they are the parent's."""
    if sum(one.weight for one in train) <= 0:
        raise ValueError("a fine-tune needs examples with a weight above 0")
    examples = [one.example for one in train]
    try:
        old = read_config(parent) if parent else None
    except ModelError:
        old = None  # of another format: start from scratch
    if old and old["task"] == task:
        schema = Schema.from_dict(old["schema"])
        goal: Objective | None = objective_of(task, old)
        if isinstance(goal, Classes):
            goal = _spelled(goal, train)
        if goal and schema.fits(examples):
            return goal, schema, True
    return first_objective(task, train), Schema.fit(examples), False


def _head(
    parent: Path | None, objective: Objective, schema: Schema, config: FinetuneConfig
) -> tuple[Head, bool]:
    """The head to train, and whether it is a new column beside the parent's."""
    if parent is None:
        return Head(schema, objective.outputs), False
    columns, state = read_config(parent)["columns"], read_weights(parent, HEAD_WEIGHTS)
    grown = columns < config.columns
    head = Head(schema, objective.outputs, columns + grown)
    older = head.parent if grown else head
    assert older is not None
    older.read(state)
    return head, grown


def _spelled(parent: Classes, train: Sequence[TrainingExample]) -> Classes | None:
    """The parent's classes as these examples write them; None where there are others now."""
    seen = {one.label for one in train}
    written = {class_of(label): label for label in seen}
    known = tuple(written.get(class_of(label), label) for label in parent.labels)
    fits = seen <= set(known) and len({class_of(label) for label in known}) == len(known)
    return Classes(known) if fits else None


def _to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _fit_wide(
    inputs: HeadInputs,
    head: Head,
    objective: Objective,
    target: Tensor,
    weight: Tensor,
    config: FinetuneConfig,
    seed: int,
) -> Tensor:
    """Set the head's wide weights; return logits (n, outputs) of weights fitted without the row."""
    # Uneven weights say less than as many equal ones (Kish 1965): the penalty has to know.
    weight = weight.cpu()
    weight = weight * weight.sum() ** 2 / (weight**2).sum() / len(weight)
    data = (inputs.wide, inputs.share, target.cpu(), weight, objective)
    head.wide.data = fit_wide(*data, config.wide_strength, WIDE_BUCKETS).to(target.device)
    return held_out_logits(*data, config.wide_strength, WIDE_BUCKETS, config.folds, seed).to(
        target.device
    )


def _fit_deep(
    head: Head,
    objective: Objective,
    data: tuple[HeadInputs, Tensor, Tensor, Tensor],
    apart: tuple[Sequence[int], Sequence[int]],
    anchor: Anchor | None,
    config: FinetuneConfig,
    progress: Progress | None,
    seed: int,
) -> list[float]:
    """Train what is added to the wide part's logits; return the loss of each step.

    `data` are inputs, targets, weights and these logits; `apart` the rows to learn from, and those
    to stop by.
    """
    inputs, target, weight, offset = data
    rows, asked = apart
    device = target.device
    deep = head.adapted().values()
    optimizer = torch.optim.AdamW(deep, lr=config.head_lr, weight_decay=config.weight_decay)
    steps = config.tabular_steps
    warmup = 0.05 * steps + 1
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 1 - step / steps)
    )
    asked = list(asked)
    best = Best(
        head, inputs.at(asked, device), objective, target[asked], weight[asked], offset[asked]
    )
    losses: list[float] = []
    for step, at in enumerate(_batches(rows, config.batch_size, steps, seed), 1):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = head.deep(inputs.at(at, device))
        each = objective.losses(outputs.float() + offset[at], target[at])
        loss = (each * weight[at]).mean()
        if anchor:
            loss = loss + anchor.penalty() / len(target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if progress:
            progress(step, steps, losses[-1])
        if step % math.ceil(steps / LOOKS) == 0 and best.is_over():
            break
    best.restore()
    return losses


def _importance(parent: Path, device: torch.device) -> dict[str, Tensor]:
    """What the parent says of its weights; nothing where it was trained without EWC."""
    return read_weights(parent, IMPORTANCE, str(device)) if (parent / IMPORTANCE).is_file() else {}


def _drawn_losses(
    head: Head, inputs: HeadInputs, objective: Objective, target: Tensor, offset: Tensor
) -> Iterator[Tensor]:
    """The loss of some examples, each with a class drawn from the model; of numbers, their own."""
    for row in torch.randperm(len(target))[:FISHER_EXAMPLES].tolist():
        output = head.deep(inputs.at([row], target.device)).float() + offset[[row]]
        said = target[[row]]
        if isinstance(objective, Classes):
            said = torch.multinomial(F.softmax(output.detach(), 1), 1)[:, 0]
        yield objective.losses(output, said).sum()


def _batches(rows: Sequence[int], batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Batches of rows in random order, epoch after epoch."""
    rng = np.random.default_rng(seed)
    done = 0
    while True:
        order = rng.permutation(rows).tolist()
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]
            done += 1
            if done == steps:
                return

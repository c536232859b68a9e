"""One fine-tune: labelled examples in, an artifact out.

The frozen layers' activations are computed once and kept (ActivationCache), so an epoch costs only
the adapted upper layers. The loop is plain: AdamW on the task's loss, length-bucketed batches, a
linear decay of the learning rate. The same code runs on CPU and on CUDA.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec.structs import asdict
from torch import Tensor, nn
from torch.nn import functional as F

from headrace.errors import ModelError
from headrace.events.labels import class_of
from headrace.model.activations import ActivationCache, shared_activations
from headrace.model.config import FinetuneConfig
from headrace.model.ewc import Anchor, fisher, summed
from headrace.model.inputs import Schema
from headrace.model.network import (
    FROZEN_LAYERS,
    WIDE_BUCKETS,
    Backbone,
    Head,
    HeadInputs,
    default_device,
    lora_config,
    padded,
    pool,
)
from headrace.model.objectives import Classes, Objective, first_objective, objective_of
from headrace.model.recipe import Progress, Task, TrainingExample
from headrace.model.stopping import LOOKS, Best, set_apart
from headrace.model.weights import (
    ADAPTER_WEIGHTS,
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
    cache: ActivationCache | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Artifact:
    """Learn from `train`, starting from `parent` where its task, labels and features still fit.

    Raises:
        ValueError: no examples, or a single label and no parent that knows others.
    """
    config = config or FinetuneConfig()
    started = time.perf_counter()
    objective, schema, warm = _start(train, parent, config, task)
    if not schema.has_text:
        cache = None
    elif cache is None:
        cache = shared_activations()
    device = cache.backbone.device if cache else torch.device(default_device())
    rows = _rows(len(train), config.text_examples if cache else len(train), seed)
    if cache:
        cache.warm([train[row].example.text for row in rows])
    cached = time.perf_counter()

    target = objective.targets(train).to(device)
    weight = torch.tensor([one.weight for one in train], device=device, dtype=torch.float32)
    weight /= weight.mean()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        peft_model = _adapted(cache.backbone, config) if cache else None
        head = Head(schema, objective.outputs, cache.backbone.dim if cache else 0).to(device)
        if warm and parent:
            _load(parent, peft_model, head)
        inputs = _inputs(train, schema, cache)
        offset = _fit_wide(inputs, head, objective, target, weight, config, seed)
        adapted = {name: p for name, p in head.named_parameters() if p is not head.wide}
        before = _importance(parent, device) if warm and parent and config.ewc else {}
        anchor = Anchor(adapted, before, config.ewc) if before else None
        losses = _fit_deep(
            train,
            rows,
            inputs,
            peft_model,
            head,
            cache,
            objective,
            target,
            weight,
            offset,
            anchor,
            config,
            progress,
            seed,
        )
        importance = {}
        if config.ewc and not cache:
            losses_of = _drawn_losses(head, inputs, objective, target, offset)
            importance = summed(fisher(losses_of, adapted, len(train)), before)

    return Artifact(
        task=task,
        objective=objective,
        schema=schema,
        finetune=asdict(config),
        adapter=_adapter_state(peft_model),
        head=_to_cpu(head.state_dict()),
        fisher=_to_cpu(importance),
        report={
            "examples": len(train),
            "steps": len(losses),
            "train_loss": round(float(np.mean(losses[-len(losses) // 4 :])), 4),
            "warm_started": warm,
            "held_in_place": anchor is not None,
            "seed": seed,
            "device": device.type,
            "activation_seconds": round(cached - started, 2),
            "seconds": round(time.perf_counter() - started, 2),
        },
    )


def _start(
    train: Sequence[TrainingExample], parent: Path | None, config: FinetuneConfig, task: Task
) -> tuple[Objective, Schema, bool]:
    """The objective and the schema to learn with, and whether they are the parent's."""
    if sum(one.weight for one in train) <= 0:
        raise ValueError("a fine-tune needs examples with a weight above 0")
    examples = [one.example for one in train]
    try:
        old = read_config(parent) if parent else None
    except ModelError:
        old = None  # of another format: start from scratch
    if old and old["task"] == task and old["finetune"]["rank"] == config.rank:
        schema = Schema.from_dict(old["schema"])
        goal: Objective | None = objective_of(task, old)
        if isinstance(goal, Classes):
            goal = _spelled(goal, train)
        if goal and schema.fits(examples):
            return goal, schema, True
    return first_objective(task, train), Schema.fit(examples), False


def _spelled(parent: Classes, train: Sequence[TrainingExample]) -> Classes | None:
    """The parent's classes as these examples write them; None where there are others now."""
    seen = {one.label for one in train}
    written = {class_of(label): label for label in seen}
    known = tuple(written.get(class_of(label), label) for label in parent.labels)
    fits = seen <= set(known) and len({class_of(label) for label in known}) == len(known)
    return Classes(known) if fits else None


def _rows(examples: int, wanted: int, seed: int) -> list[int]:
    """Which examples the deep part reads: half of them the newest, half drawn from the older."""
    if examples <= wanted:
        return list(range(examples))
    newest = examples - wanted // 2
    older = np.random.default_rng(seed).choice(newest, wanted - wanted // 2, replace=False)
    return [*sorted(older.tolist()), *range(newest, examples)]


def _adapted(backbone: Backbone, config: FinetuneConfig) -> Any:
    from peft import get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, at peft
        return get_peft_model(backbone.copy(), lora_config(config.rank, config.alpha)).to(
            backbone.device
        )


def _upper(peft_model: Any) -> list[nn.Module]:
    return list(peft_model.base_model.model.encoder.layer[FROZEN_LAYERS:])


def _load(parent: Path, peft_model: Any, head: Head) -> None:
    from peft import set_peft_model_state_dict

    if peft_model is not None:
        set_peft_model_state_dict(peft_model, read_weights(parent, ADAPTER_WEIGHTS))
    head.load_state_dict(read_weights(parent, HEAD_WEIGHTS))


def _adapter_state(peft_model: Any) -> dict[str, Tensor]:
    if peft_model is None:
        return {}
    from peft import get_peft_model_state_dict

    return _to_cpu(get_peft_model_state_dict(peft_model, save_embedding_layers=False))


def _to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _inputs(
    train: Sequence[TrainingExample], schema: Schema, cache: ActivationCache | None
) -> HeadInputs:
    examples = [one.example for one in train]
    tokens = padded(cache.tokens([example.text for example in examples]), 0) if cache else None
    return HeadInputs.of(schema, examples, tokens, torch.device("cpu"))


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
    train: Sequence[TrainingExample],
    rows: Sequence[int],
    inputs: HeadInputs,
    peft_model: Any,
    head: Head,
    cache: ActivationCache | None,
    objective: Objective,
    target: Tensor,
    weight: Tensor,
    offset: Tensor,
    anchor: Anchor | None,
    config: FinetuneConfig,
    progress: Progress | None,
    seed: int,
) -> list[float]:
    """Train over `rows` what is added to the logits `offset`; return the loss of each step."""
    device = target.device
    layers = _upper(peft_model) if peft_model else []
    for layer in layers:
        layer.eval()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in head.parameters() if p is not head.wide], "lr": config.head_lr}
    ]
    if peft_model:
        lora = [p for p in peft_model.parameters() if p.requires_grad]
        groups.append({"params": lora, "lr": config.lora_lr})
    optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay)
    steps = math.ceil(len(rows) / config.batch_size) if cache else config.tabular_steps
    warmup = 0.05 * steps + 1
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 1 - step / steps)
    )

    losses: list[float] = []
    best = None
    if not cache:
        rows, asked = set_apart([one.label for one in train], config.stop_share, seed)
        judged = (target[asked], weight[asked], offset[asked])
        best = Best(head, inputs.at(asked, device), objective, *judged)
    lengths = [len(train[row].example.text) for row in rows]
    for step, picked in enumerate(_batches(lengths, config.batch_size, steps, seed), 1):
        at = [rows[one] for one in picked]
        pooled = None
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            if cache:
                hidden = cache.hidden([train[row].example.text for row in at])
                pooled = pool(layers, hidden.states, hidden.mask)
                pooled = F.dropout(pooled, config.dropout)
            deep = head.deep(pooled, inputs.at(at, device))
        each = objective.losses(deep.float() + offset[at], target[at])
        loss = (each * weight[at]).mean()
        if anchor:
            loss = loss + anchor.penalty() / len(train)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if progress:
            progress(step, steps, losses[-1])
        if best and step % math.ceil(steps / LOOKS) == 0 and best.is_over():
            break
    if best:
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
        output = head.deep(None, inputs.at([row], target.device)).float() + offset[[row]]
        said = target[[row]]
        if isinstance(objective, Classes):
            said = torch.multinomial(F.softmax(output.detach(), 1), 1)[:, 0]
        yield objective.losses(output, said).sum()


def _batches(lengths: Sequence[int], batch_size: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Batches of rows of like length, in random order, epoch after epoch."""
    rng = np.random.default_rng(seed)
    done = 0
    while True:
        order = rng.permutation(len(lengths))
        pools = [order[i : i + 16 * batch_size] for i in range(0, len(order), 16 * batch_size)]
        batches = []
        for rows in pools:
            alike = sorted(rows.tolist(), key=lambda row: lengths[row])
            batches += [alike[i : i + batch_size] for i in range(0, len(alike), batch_size)]
        for number in rng.permutation(len(batches)):
            yield batches[number]
            done += 1
            if done == steps:
                return

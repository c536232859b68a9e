"""What a version still knows of older stages of a stream, by how its examples were chosen."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import say, table
from headrace.engine import Engine
from headrace.model.config import FinetuneConfig
from headrace.model.examples import LabeledExample
from headrace.model.finetune import finetune
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample
from headrace.model.sampling import Sampling, sample
from headrace.model.weights import load_adapter
from headrace.trainer.compare import roc_auc

START = datetime(2026, 1, 1, tzinfo=UTC)
STAGES, SEEDS = 4, 2
ROWS, TEST, STEPS = 2_000, 2_000, 300  # of a stage


@dataclass(frozen=True)
class Method:
    """What one version learns from.

    Attributes:
        stages: how many of the newest stages its rows may be of.
        sampling: of these rows; `examples` as many as a stage has, but for the last method.
    """

    name: str
    stages: int = STAGES
    sampling: Sampling = field(default_factory=Sampling)
    ewc: float = 0.0
    columns: int = 1


REPLAY = Sampling(examples=ROWS, recent=0.5)
METHODS = (
    Method("the stage alone, no replay", stages=1),
    Method("the stage alone, EWC of 1", stages=1, ewc=1.0),
    Method("the stage alone, EWC of 10", stages=1, ewc=10.0),
    Method("the stage alone, columns", stages=1, columns=STAGES),
    Method("replay: half newest, half by reservoir", sampling=REPLAY),
    Method("replay, EWC of 1", sampling=REPLAY, ewc=1.0),
    Method("replay, columns", sampling=REPLAY, columns=STAGES),
    Method("everything, up to four times the rows"),
)


def run(_: Engine, quick: bool = False) -> str:
    """Return the tables as Markdown."""
    torch.set_num_threads(1)
    seeds = range(1 if quick else SEEDS)
    found = {}
    for number, method in enumerate(METHODS):
        say(f"forgetting: {method.name}")
        found[number] = np.mean([_aucs(method, seed, quick) for seed in seeds], axis=0)
    ends = [[f"{auc:.3f}" for auc in found[number][-1]] for number in found]
    summary = [
        (method.name, *cells, f"{_new(found[number]):.3f}", f"{_forgotten(found[number]):+.3f}")
        for number, (method, cells) in enumerate(zip(METHODS, ends, strict=True))
    ]
    head = [f"stage {stage + 1}" for stage in range(STAGES)]
    parts = [
        f"{STAGES} stages of {ROWS:,} examples, {STEPS} steps each; seeds: {len(seeds)}. "
        "After the last stage, AUC on new examples of each stage; then on a stage right after it "
        "was learned, and what older stages lost since then, both on average.\n",
        table(["trained on", *head, "when new", "lost"], summary),
    ]
    for number, method in enumerate(METHODS):
        parts.append(f"\n### {method.name[0].upper()}{method.name[1:]}\n")
        rows = [
            (f"after stage {stage + 1}", *(f"{auc:.3f}" if auc else "" for auc in line))
            for stage, line in enumerate(np.nan_to_num(found[number]).tolist())
        ]
        parts.append(table(["", *head], rows))
    return "\n".join(parts)


def _new(aucs: NDArray[np.float64]) -> float:
    return float(np.diag(aucs).mean())


def _forgotten(aucs: NDArray[np.float64]) -> float:
    """The mean of what each older stage has now, less what it had when it was new."""
    return float(np.mean([aucs[-1, stage] - aucs[stage, stage] for stage in range(STAGES - 1)]))


def _aucs(method: Method, seed: int, quick: bool) -> NDArray[np.float64]:
    """AUC after each stage (rows) on each stage so far (columns); NaN for those to come."""
    stages = [_stage(number, ROWS, seed) for number in range(STAGES)]
    tests = [_stage(number, TEST, seed + 1_000) for number in range(STAGES)]
    config = FinetuneConfig(
        ewc=method.ewc,
        columns=method.columns,
        tabular_steps=STEPS // 6 if quick else STEPS,
    )
    out = np.full((STAGES, STAGES), np.nan)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        parent: Path | None = None
        for now in range(STAGES):
            rows = sum(stages[max(0, now + 1 - method.stages) : now + 1], list[LabeledExample]())
            drawn = sample(rows, method.sampling, seed * STAGES + now)
            train = [
                TrainingExample(row.example, row.label, weight)
                for row, weight in zip(drawn.rows, drawn.weights.tolist(), strict=True)
            ]
            folder = Path(name) / f"v{now + 1}"
            finetune(train, parent, config, seed=seed).save(folder)
            out[now, : now + 1] = [_auc(folder, test) for test in tests[: now + 1]]
            parent = folder
    return out


def _auc(folder: Path, rows: Sequence[LabeledExample]) -> float:
    version = load_adapter(folder)
    p = version.predict([row.example for row in rows])
    truth = np.array([row.label == "yes" for row in rows])
    area = roc_auc(p[:, version.labels.index("yes")], truth)
    assert area is not None
    return area


def _stage(number: int, count: int, seed: int) -> list[LabeledExample]:
    """Examples of a region of their own, in which the label turns on another pair of numbers.

    All stages share five numbers and a category. Where the first number lies says the stage; the
    label is the sign of an interaction of two others, which differ from stage to stage.
    """
    rng = np.random.default_rng([seed, number])
    numbers = rng.normal(size=(count, 4))
    place = rng.normal(3.0 * number, 0.5, count)
    plan = rng.random(count) < 0.5
    one, other = numbers[:, number], numbers[:, (number + 1) % 4]
    logit = 3 * np.where(plan, one, other) * (-1) ** number
    label = rng.random(count) * (1 + np.exp(-logit)) < 1
    rows: list[LabeledExample] = []
    for at in range(count):
        features: dict[str, Any] = {f"x{k}": float(numbers[at, k]) for k in range(4)}
        features |= {"place": float(place[at]), "plan": "pro" if plan[at] else "free"}
        when = START + timedelta(days=number, seconds=at)
        rows.append(
            LabeledExample(
                f"{number}/{at}", when, when, Example("", None, features),
                "yes" if label[at] else "no",
            )
        )  # fmt: skip
    return rows

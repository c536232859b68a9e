"""The network over tables, and a version of it in memory.

    numbers, names ──► tabular encoder ──► out ─┐
    name=value pairs, steps and slopes ──► wide ─┴─► outputs

`wide` has one weight for each hash and output. A version never changes once it is loaded: swapping
one is assigning a reference, and no prediction can mix two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.model.inputs import Example, Schema
from headrace.model.objectives import Objective
from headrace.model.seen import Seen, chances

WIDE_BUCKETS = 1 << 17
NAME_BUCKETS = 1 << 12
NAME_DIM = 32
TABULAR_DIM = 64
BATCH = 256  # examples in one forward pass


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows of different lengths as one (n, longest) tensor."""
    out = torch.full((len(rows), max(map(len, rows), default=0)), fill, dtype=torch.long)
    for row, values in enumerate(rows):
        out[row, : len(values)] = torch.as_tensor(values)
    return out


@dataclass(frozen=True, slots=True)
class HeadInputs:
    """What the head reads of n examples."""

    numbers: Tensor  # (n, 2 × numerics)
    names: Tensor  # (n, most names of one example), -1 where there are fewer
    wide: Tensor  # (n, most hashes of one example), -1 where there are fewer
    share: Tensor  # of the wide's shape: what each hash counts, 0 where there are fewer

    def at(self, rows: Sequence[int], device: torch.device) -> HeadInputs:
        """Those of some of the examples."""
        parts = (self.numbers, self.names, self.wide, self.share)
        return HeadInputs(*(part[rows].to(device) for part in parts))

    @classmethod
    def of(cls, schema: Schema, examples: Sequence[Example], device: torch.device) -> HeadInputs:
        numbers = schema.numbers(examples)
        steps = schema.steps(numbers, WIDE_BUCKETS)
        named = [schema.names(example, WIDE_BUCKETS) for example in examples]
        wide = _distinct(padded([a + b for a, b in zip(named, steps, strict=True)], -1).to(device))
        values = torch.from_numpy(numbers).to(device)
        slopes = torch.tensor(schema.slopes(WIDE_BUCKETS), dtype=torch.long, device=device)
        share = torch.cat([_share(wide), values[:, : len(slopes)]], dim=1)
        wide = torch.cat([wide, slopes.expand(len(examples), -1)], dim=1)
        names = padded([schema.names(example, NAME_BUCKETS) for example in examples], -1)
        return cls(values, names.to(device), wide, share)


def _distinct(hashes: Tensor) -> Tensor:
    """Each row sorted downwards, with -1 for every repetition."""
    hashes = hashes.sort(dim=1, descending=True).values
    repeated = torch.zeros_like(hashes, dtype=torch.bool)
    repeated[:, 1:] = hashes[:, 1:] == hashes[:, :-1]
    return hashes.masked_fill(repeated, -1)


def _share(hashes: Tensor) -> Tensor:
    """Values that give every row with anything in it the length 1."""
    known = (hashes >= 0).float()
    return known / known.sum(1, keepdim=True).clamp_min(1).sqrt()


class Head(nn.Module):
    """Tabular encoder and outputs, plus the wide weights.

    With more than one, it is the newest of the columns of a progressive network (Rusu et al. 2016,
    "Progressive neural networks"): its second layer reads the first ones of all. Which column
    answers is told by where its examples lay, as an expert is chosen by Aljundi, Chakravarty and
    Tuytelaars 2017, "Expert Gate".
    """

    def __init__(self, schema: Schema, outputs: int, columns: int = 1) -> None:
        super().__init__()
        self.names = nn.Embedding(NAME_BUCKETS, NAME_DIM)
        self.tabular = nn.Sequential(
            nn.Linear(2 * len(schema.numerics) + NAME_DIM, TABULAR_DIM),
            nn.GELU(),
            nn.Linear(TABULAR_DIM * columns, TABULAR_DIM),
            nn.GELU(),
        )
        self.out = nn.Linear(TABULAR_DIM, outputs)
        self.wide = nn.Parameter(torch.zeros(WIDE_BUCKETS + 1, outputs))
        self.seen = Seen(len(schema.numerics), NAME_BUCKETS)
        self.parent = Head(schema, outputs, columns - 1) if columns > 1 else None
        nn.init.normal_(self.names.weight, std=0.5)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def columns(self) -> list[Head]:
        """This one and older ones."""
        return [self, *(self.parent.columns if self.parent else [])]

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Logits, (n, outputs): those of each column, as far as it knows such examples."""
        columns = self.columns
        logits = torch.stack(
            [one.deep(inputs) + wide_logits(one.wide, inputs.wide, inputs.share) for one in columns]
        )
        known = chances([one.seen(inputs.numbers, inputs.names) for one in columns])
        return (logits * known.unsqueeze(-1)).sum(0)

    def deep(self, inputs: HeadInputs) -> Tensor:
        """What the tabular encoder adds to the column's wide part, (n, outputs)."""
        logits: Tensor = self.out(self.below(inputs))
        return logits

    def below(self, inputs: HeadInputs) -> Tensor:
        """What the last layer reads, (n, TABULAR_DIM)."""
        first = torch.cat([one.first(inputs) for one in self.columns], dim=1)
        encoded: Tensor = self.tabular[2:](first)
        return encoded

    def first(self, inputs: HeadInputs) -> Tensor:
        """The tabular encoder's first layer, (n, TABULAR_DIM)."""
        names = _sum(self.names.weight, inputs.names, _share(inputs.names))
        encoded: Tensor = self.tabular[:2](torch.cat([inputs.numbers, names], dim=1))
        return encoded

    def adapted(self) -> dict[str, nn.Parameter]:
        """What AdamW trains: the newest column but for its wide weights."""
        return {
            name: value
            for name, value in self.named_parameters()
            if name != "wide" and not name.startswith("parent.")
        }

    @torch.no_grad()
    def know_nothing_but(self, names: Tensor) -> None:
        """Have every name's embedding be 0 that is none of these, as nothing is known of it."""
        unknown = torch.ones(NAME_BUCKETS, dtype=torch.bool)
        unknown[names[names >= 0]] = False
        self.names.weight[unknown] = 0

    def read(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of an artifact; those of earlier releases do not say what was seen."""
        seen = {name: value for name, value in self.state_dict().items() if "seen." in name}
        self.load_state_dict({**seen, **state})


def wide_logits(weights: Tensor, hashes: Tensor, share: Tensor) -> Tensor:
    """Logits (n, outputs) from weights (buckets + 1, outputs), the bias in their last row."""
    return _sum(weights, hashes, share) + weights[-1]


def _sum(table: Tensor, hashes: Tensor, share: Tensor) -> Tensor:
    """The rows of `table` that were hashed to, summed with their shares."""
    return (table[hashes.clamp_min(0)] * share.unsqueeze(-1)).sum(1)


class Adapter:
    """One version of one model, loaded and immutable; any thread may call it.

    `headrace.model.weights.load_adapter` makes one from its folder.
    """

    def __init__(
        self,
        objective: Objective,
        schema: Schema,
        head: Head,
        device: torch.device,
    ) -> None:
        self.labels = objective.labels
        self.objective = objective
        self.features = schema.numerics
        self.schema = schema
        self.head = head.to(device).eval().requires_grad_(False)
        self.device = device

    @torch.inference_mode()
    def predict(self, examples: Sequence[Example]) -> NDArray[np.floating[Any]]:
        """Probabilities, (n, labels); of another task than classification numbers, (n,)."""
        outputs = torch.zeros((len(examples), self.objective.outputs), device=self.device)
        for start in range(0, len(examples), BATCH):
            batch = examples[start : start + BATCH]
            inputs = HeadInputs.of(self.schema, batch, self.device)
            outputs[start : start + BATCH] = self.head(inputs).float()
        answers: NDArray[np.floating[Any]] = self.objective.answers(outputs).cpu().numpy()
        return answers

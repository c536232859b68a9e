"""Answers as a version does, from the files of a bundle. Needs numpy, and for texts onnxruntime and
tokenizers.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
BUNDLE, ARRAYS, WORDS = "bundle.json", "arrays.npz", "words.json"
GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
WORD = re.compile(r"\w\w+")
SURE = 0.99  # the probability of a label that somebody has set
Floats = NDArray[np.float64]


class Model:
    """The version in a folder. It never changes, and any thread may call it."""

    def __init__(self, folder: Path = HERE) -> None:
        self.facts: dict[str, Any] = json.loads((folder / BUNDLE).read_text())
        with np.load(folder / ARRAYS) as arrays:
            files = _Files(folder, self.facts, dict(arrays))
        self._parts: dict[str, _Part] = {name: PARTS[name](files) for name in self.facts["weights"]}

    def predict(
        self,
        text: str,
        segment: str | None = None,
        features: Mapping[str, str | float | bool | None] | None = None,
    ) -> dict[str, Any]:
        """Answer as `POST /v1/predict` of a gateway does."""
        began = time.perf_counter()
        p = self.probabilities(text, segment, features or {})
        scores: dict[str, float] = {}
        for label, one in zip(self.facts["labels"], p, strict=True):
            scores[label] = min(max(scores.get(label, 0.0) + one, 0.0), 1.0)
        best = max(scores, key=scores.__getitem__)
        positive = self.facts["positive_label"]
        return {
            "request_id": uuid.uuid4().hex,
            "model": self.facts["model"],
            "model_version": self.facts["model_version"],
            "prediction": best,
            "score": scores[best if positive is None else positive],
            "scores": scores,
            "latency_ms": round((time.perf_counter() - began) * 1000, 3),
        }

    def inference(
        self,
        answer: Mapping[str, Any],
        text: str,
        segment: str | None = None,
        features: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The event that says what was asked and answered, at this moment."""
        said = {name: value for name, value in answer.items() if name != "scores"}
        return {
            **said,
            "probabilities": answer["scores"],
            "event_time": datetime.now(UTC).isoformat(),
            "input": text,
            "segment": segment,
            "features": dict(features or {}),
        }

    def probabilities(
        self, text: str, segment: str | None, features: Mapping[str, Any]
    ) -> list[float]:
        """Return the probability of each label."""
        facts = self.facts
        if facts["features"] is not None:
            features = {name: one for name, one in features.items() if name in facts["features"]}
        pooled, learned = np.zeros(len(facts["labels"])), np.zeros(len(facts["labels"]))
        for name, part in self._parts.items():
            logs, correction = part.logs(_Asked(text, segment, features))
            pooled += facts["weights"][name] * np.maximum(logs, math.log(facts["floor"]))
            learned += correction
        p = np.exp(_log_softmax(_log_softmax(pooled) + learned))
        if facts["shift"]:
            p = p * np.exp(facts["shift"])
            p = p / p.sum()
        column = facts["corrections"].get(_input_key(text, segment, features))
        if column is not None:
            p = np.full(len(p), (1 - SURE) / max(1, len(p) - 1))
            p[column] = SURE
        return [float(one) for one in p]


class _Files(NamedTuple):
    folder: Path
    facts: Mapping[str, Any]
    arrays: Mapping[str, Any]


class _Asked(NamedTuple):
    text: str
    segment: str | None
    features: Mapping[str, Any]


class _Part(Protocol):
    """A classifier among those that are weighed."""

    def logs(self, asked: _Asked) -> tuple[Floats, Floats | float]:
        """Return log probabilities (labels,), and what was learned online, to add to the logits."""


class _Words:
    """TF-IDF of words, pairs of them, and names with their values, and of groups of letters;
    logistic regression.
    """

    def __init__(self, files: _Files) -> None:
        words = json.loads((files.folder / WORDS).read_text())
        self._terms, self._letters = (
            {term: place for place, term in enumerate(words[name])} for name in ("terms", "letters")
        )
        self._characters, self._group = files.facts["characters"], files.facts["group"]
        self._idf, self._weight, self._bias = (
            files.arrays[f"words.{name}"] for name in ("idf", "weight", "bias")
        )

    def logs(self, asked: _Asked) -> tuple[Floats, Floats | float]:
        text = asked.text[: self._characters].lower()
        words = WORD.findall(text)
        named = [f"{name}={value}" for name, value in asked.features.items() if _is_name(value)]
        if asked.segment is not None:
            named.append(f"={asked.segment}")
        terms = [*words, *map(" ".join, pairwise(words)), *named] or [""]
        letters = [
            word[at : at + self._group]
            for word in (f" {word} " for word in text.split())
            for at in range(max(1, len(word) - self._group + 1))
        ]
        logits = self._bias + self._logits(terms, self._terms, 0)
        return _log_softmax(logits + self._logits(letters, self._letters, len(self._terms))), 0.0

    def _logits(self, terms: Sequence[str], known: Mapping[str, int], start: int) -> Floats:
        """What the vector of some terms adds; their places in the arrays begin at `start`."""
        counts = Counter(start + known[term] for term in terms if term in known)
        places = np.array(sorted(counts), int)
        values = np.array([1 + math.log(counts[place]) for place in sorted(counts)])
        values = values * self._idf[places]
        length = math.sqrt(float((values**2).sum()))
        found: Floats = self._weight[:, places] @ (values / length if length else values)
        return found


class _States:
    """Logistic regression on the encoder's states, and the correction that was learned online."""

    def __init__(self, files: _Files) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self._facts, self._arrays = files.facts, files.arrays
        self._tokenizer = Tokenizer.from_file(str(files.folder / TOKENIZER))
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(files.folder / GRAPH), options, providers=["CPUExecutionProvider"]
        )

    def logs(self, asked: _Asked) -> tuple[Floats, Floats | float]:
        most, arrays = self._facts["tokens"], self._arrays
        ids = self._tokenizer.encode(asked.text[: self._facts["characters"]]).ids
        ids = ids if len(ids) <= most else [*ids[: most - 1], ids[-1]]
        feeds = {"input_ids": np.array([ids], np.int64)}
        feeds["attention_mask"] = np.ones_like(feeds["input_ids"])
        states = self._session.run(["states"], feeds)[0][0]
        states = (states - arrays["states.center"]) / arrays["states.scale"]
        logits = arrays["states.weight"] @ states + arrays["states.bias"]
        return _log_softmax(logits), arrays["correction.weight"] @ states + arrays[
            "correction.bias"
        ]


class _Table:
    """The network of features: what `headrace.model.inputs` and `network` compute, of one row."""

    def __init__(self, files: _Files) -> None:
        self._facts, self._labels = files.facts["table"], len(files.facts["labels"])
        self._head = {
            name.removeprefix("table."): one
            for name, one in files.arrays.items()
            if name.startswith("table.")
        }

    def logs(self, asked: _Asked) -> tuple[Floats, Floats | float]:
        facts, head = self._facts, self._head
        values, missing = self._numbers(asked.features)
        pairs = [(name, str(value)) for name, value in asked.features.items() if _is_name(value)]
        pairs += [("", asked.segment)] if asked.segment is not None else []
        steps = [
            (f"{name}\x1f", "missing" if gone else str(int(step)))
            for name, step, gone in zip(
                facts["numerics"], np.rint(values * facts["steps"]), missing, strict=True
            )
        ]
        slopes = [_bucket(f"{name}\x1f", "slope", facts["wide"]) for name in facts["numerics"]]
        wide = sorted({_bucket(*pair, facts["wide"]) for pair in [*pairs, *steps]})
        names = [_bucket(*pair, facts["names"]) for pair in pairs]
        x = np.concatenate([values, missing, _mean(head["names.weight"], names)])
        for layer in ("tabular.0", "tabular.2"):
            x = _gelu(head[f"{layer}.weight"] @ x + head[f"{layer}.bias"])
        logits = head["out.weight"] @ x + head["out.bias"] + head["wide"][-1]
        logits = logits + _mean(head["wide"], wide) + values @ head["wide"][slopes]
        out = np.full(self._labels, -math.inf)
        out[facts["columns"]] = _log_softmax(logits)
        return out, 0.0

    def _numbers(self, features: Mapping[str, Any]) -> tuple[Floats, Floats]:
        """Standardised values, and 1 where one is missing."""
        facts = self._facts
        values, missing = np.zeros((2, len(facts["numerics"])))
        stored = zip(facts["numerics"], facts["mean"], facts["scale"], strict=True)
        for at, (name, mean, scale) in enumerate(stored):
            value = features.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                values[at] = (_signed_log(value) - mean) / scale
            else:
                missing[at] = 1.0
        return np.clip(values, -facts["clip"], facts["clip"]), missing


PARTS: dict[str, Any] = {"words": _Words, "states": _States, "table": _Table}


def _bucket(name: str, value: str, buckets: int) -> int:
    return zlib.crc32(f"{name}\x1f{value}".encode()) % buckets


def _signed_log(value: float) -> float:
    try:
        value = float(value)
    except OverflowError:
        return 0.0
    return math.copysign(math.log1p(abs(value)), value) if math.isfinite(value) else 0.0


def _mean(table: Any, rows: Sequence[int]) -> Floats:
    """The rows of a table, summed so that as many of length 1 have the length 1."""
    found: Floats = table[list(rows)].sum(0, dtype=np.float64) / math.sqrt(max(1, len(rows)))
    return found


def _gelu(x: Floats) -> Floats:
    return np.array([0.5 * one * (1 + math.erf(one / math.sqrt(2))) for one in x])


def _log_softmax(logits: Any) -> Floats:
    shifted: Floats = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max()
    return shifted - math.log(float(np.exp(shifted).sum()))


def _is_name(value: object) -> bool:
    return isinstance(value, str | bool)


def _input_key(text: str, segment: str | None, features: Mapping[str, Any]) -> str:
    """What corrections of an input are found by."""
    if text.strip():
        said: Any = " ".join(text.split())
    else:
        sent = {name: value for name, value in features.items() if "__" not in name}
        said = [segment, sorted(sent.items())]
    return hashlib.blake2b(json.dumps(said, default=str).encode(), digest_size=16).hexdigest()

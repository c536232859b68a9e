from __future__ import annotations

import csv
import gzip
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headrace.model.activations import ActivationCache
from headrace.model.config import FinetuneConfig
from headrace.model.finetune import finetune
from headrace.model.inputs import Example
from headrace.model.network import Adapter, Backbone, load_backbone
from headrace.model.recipe import TrainingExample
from headrace.model.weights import load_adapter
from headrace.trainer.compare import evaluate, roc_auc
from tests.trainer.clicks import clicks

DATA = Path(__file__).parents[2] / "data" / "cve_triage_12k.csv.gz"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.set_num_threads(1)
    return load_backbone("cpu")


def load(train: list[TrainingExample], path: Path, **settings: Any) -> Adapter:
    finetune(train, config=FinetuneConfig(**settings)).save(path)
    return load_adapter(path, None)


def test_an_interaction_of_features_is_learned(tmp_path: Path) -> None:
    adapter = load(clicks(1_500, 0), tmp_path / "v1")
    test = clicks(500, 1)
    p = adapter.predict([one.example for one in test])
    auc = roc_auc(p[:, adapter.labels.index("yes")], np.array([one.label == "yes" for one in test]))
    assert auc is not None
    assert auc > 0.95


def test_many_labels_are_learned(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    train = [
        TrainingExample(
            Example("", None, {"colour": str(colour), "noise": float(rng.normal())}), str(colour)[0]
        )
        for colour in rng.choice(["red", "green", "blue", "black"], 400)
    ]
    adapter = load(train, tmp_path / "v1", tabular_steps=100)
    assert adapter.labels == ("b", "g", "r")
    got = evaluate(
        adapter.predict([one.example for one in train]),
        [x.label for x in train],
        adapter.labels,
    )
    assert got.accuracy > 0.98


def test_real_texts_are_learned(backbone: Backbone, tmp_path: Path) -> None:
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        rows = list(itertools.islice(csv.DictReader(file), 500))
    data = [
        TrainingExample(Example(row["text"], row["source"]), row["technical_impact"])
        for row in rows
    ]
    train, test = data[:350], data[350:]
    cache = ActivationCache(backbone)
    finetune(train, cache=cache).save(tmp_path)
    adapter = load_adapter(tmp_path, backbone)
    p = adapter.predict([one.example for one in test])
    got = evaluate(p, [one.label for one in test], adapter.labels, "total")
    base = evaluate(
        np.full((len(test), 2), 0.5),
        [one.label for one in test],
        adapter.labels,
        "total",
    )
    assert got.auc is not None
    assert got.auc > 0.65  # chance is 0.5, and its standard error here 0.05
    assert got.log_loss < base.log_loss


def test_saving_and_loading_gives_identical_probabilities(
    backbone: Backbone, tmp_path: Path
) -> None:
    train = [
        TrainingExample(Example(f"word{i % 7} matters", None, {"i": i}), "a" if i % 7 else "b")
        for i in range(64)
    ]
    result = finetune(train, cache=ActivationCache(backbone))
    examples = [one.example for one in train[:9]]
    answers = []
    for name in ("v1", "copy"):
        result.save(tmp_path / name)
        adapter = load_adapter(tmp_path / name, backbone)
        answers.append(adapter.predict(examples))
    assert np.array_equal(answers[0], answers[1])


def test_the_same_seed_and_data_give_the_same_weights(backbone: Backbone) -> None:
    train = [
        TrainingExample(Example(f"word{i % 5} and {i}", "eu", {"i": i}), str(i % 2))
        for i in range(96)
    ]
    one, same = (finetune(train, cache=ActivationCache(backbone), seed=3) for _ in range(2))
    other = finetune(train, cache=ActivationCache(backbone), seed=4)
    for ours, theirs in ((one.head, same.head), (one.adapter, same.adapter)):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert any(not torch.equal(one.head[name], other.head[name]) for name in one.head)


def test_the_adapted_layers_learn(backbone: Backbone) -> None:
    train = [
        TrainingExample(Example(f"word{i % 7} matters", None, {"i": i}), "a" if i % 7 else "b")
        for i in range(64)
    ]
    moved = finetune(train, cache=ActivationCache(backbone)).adapter
    # These matrices start at zero, and with them all that the adapter adds.
    assert all(moved[name].abs().max() > 1e-4 for name in moved if "lora_B" in name)
    assert any("lora_B" in name for name in moved)


def test_a_warm_start_goes_on_from_its_parent(tmp_path: Path) -> None:
    first = finetune(clicks(400, 0), config=FinetuneConfig(tabular_steps=200))
    first.save(tmp_path / "v1")
    still = FinetuneConfig(tabular_steps=1, head_lr=0.0)
    warm = finetune(clicks(100, 1), tmp_path / "v1", still)
    assert warm.report["warm_started"] is True
    assert warm.schema == first.schema
    assert torch.equal(warm.head["out.weight"], first.head["out.weight"])
    assert not torch.equal(warm.head["wide"], first.head["wide"])


@pytest.mark.parametrize(
    "changed",
    [
        TrainingExample(Example("", "eu", {"price": 1.0}), "a new label"),
        TrainingExample(Example("", "eu", {"a new number": 1.0}), "yes"),
    ],
)
def test_a_parent_that_does_not_fit_is_left_behind(
    changed: TrainingExample, tmp_path: Path
) -> None:
    config = FinetuneConfig(tabular_steps=5)
    finetune(clicks(100, 0), config=config).save(tmp_path / "v1")
    result = finetune([*clicks(100, 1), changed], tmp_path / "v1", config)
    assert result.report["warm_started"] is False
    assert changed.label in result.labels


def test_weights_decide_between_contradicting_labels(tmp_path: Path) -> None:
    same = Example("", "eu", {"plan": "pro"})
    train = [TrainingExample(same, "yes", 9.0), TrainingExample(same, "no", 1.0)] * 40
    adapter = load(train, tmp_path / "v1", tabular_steps=50)
    share = adapter.predict([same])[0, adapter.labels.index("yes")]
    assert share == pytest.approx(0.9, abs=0.07)


def test_progress_is_told_every_step() -> None:
    told: list[tuple[int, int]] = []
    finetune(
        clicks(64, 0),
        config=FinetuneConfig(tabular_steps=7),
        progress=lambda step, steps, loss=None: told.append((step, steps)),  # noqa: ARG005
    )
    assert told == [(step, 7) for step in range(1, 8)]


def test_the_cache_keeps_to_its_limit(backbone: Backbone) -> None:
    cache = ActivationCache(backbone, limit_bytes=20_000)
    some = [f"text number {i} of some" for i in range(12)]
    assert cache.warm(some) == 12
    assert 0 < cache.bytes <= 20_000
    assert some[-1] in cache
    hidden = cache.hidden(some)  # computed again where it was let go
    torch.testing.assert_close(
        hidden.states, backbone.encode(some).states.clone(), atol=2e-2, rtol=1e-2
    )
    assert cache.bytes <= 20_000


@pytest.mark.parametrize("labels", [[], ["yes", "yes"]])
def test_nothing_to_learn_is_said(labels: list[str]) -> None:
    with pytest.raises(ValueError, match="a fine-tune needs examples"):
        finetune([TrainingExample(Example(features={"x": 1}), label) for label in labels])

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headrace.model.config import FinetuneConfig
from headrace.model.finetune import finetune
from headrace.model.inputs import Example
from headrace.model.network import Adapter
from headrace.model.recipe import TrainingExample
from headrace.model.weights import load_adapter
from headrace.trainer.compare import evaluate, roc_auc
from tests.trainer.clicks import clicks


def load(train: list[TrainingExample], path: Path, **settings: Any) -> Adapter:
    finetune(train, config=FinetuneConfig(**settings)).save(path)
    return load_adapter(path)


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


def test_saving_and_loading_gives_identical_probabilities(tmp_path: Path) -> None:
    result = finetune(clicks(100, 0), config=FinetuneConfig(tabular_steps=20))
    answers = []
    for name in ("v1", "copy"):
        result.save(tmp_path / name)
        answers.append(load_adapter(tmp_path / name).predict([x.example for x in clicks(9, 1)]))
    assert np.array_equal(answers[0], answers[1])


def test_the_same_seed_and_data_give_the_same_weights() -> None:
    config = FinetuneConfig(tabular_steps=30)
    one = finetune(clicks(96, 0), config=config, seed=3)
    torch.seed()
    same = finetune(clicks(96, 0), config=config, seed=3)
    other = finetune(clicks(96, 0), config=config, seed=4)
    assert all(torch.equal(one.head[name], same.head[name]) for name in one.head)
    assert any(not torch.equal(one.head[name], other.head[name]) for name in one.head)


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


@pytest.mark.parametrize("labels", [[], ["yes", "yes"]])
def test_nothing_to_learn_is_said(labels: list[str]) -> None:
    with pytest.raises(ValueError, match="a fine-tune needs examples"):
        finetune([TrainingExample(Example(features={"x": 1}), label) for label in labels])

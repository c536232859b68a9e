"""The recipe of tables: numbers as targets, rare classes, and whatever features come."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.control.claims import Claim
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example, Scalar
from headrace.model.recipe import Predictor, Task, TrainingExample, TrainingSet
from headrace.trainer import run
from headrace.trainer.brief import Brief, Marks
from headrace.trainer.compare import roc_auc
from headrace.trainer.dataset import Dataset
from headrace.trainer.gate import GatePolicy
from headrace.trainer.recipes import tabular

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def trained(
    examples: Sequence[Example], labels: Iterable[object], folder: Path, task: Task, steps: int
) -> Predictor:
    train = [TrainingExample(one, str(label)) for one, label in zip(examples, labels, strict=True)]
    classes = tuple(sorted({one.label for one in train})) if task == "classification" else ()
    folder.mkdir()
    data = TrainingSet("m", task, train, classes)
    tabular.fit(data, None, tabular.Config(steps=steps), lambda *_: None, folder)
    return tabular.load(folder)


def houses(n: int, seed: int) -> tuple[list[Example], np.ndarray]:
    """A price by size, by city, and by their interaction; some sizes are missing."""
    rng = np.random.default_rng(seed)
    size, city = rng.lognormal(4.5, 0.4, n), rng.choice(["north", "south"], n)
    price = 50_000 + 3_000 * size * np.where(city == "north", 1.5, 0.5)
    known = rng.random(n) > 0.03
    examples = [
        Example("", str(city[i]), {"size": float(size[i]) if known[i] else None}) for i in range(n)
    ]
    return examples, price + rng.normal(0, 20_000, n)


def test_a_number_is_learned_with_its_interaction(tmp_path: Path) -> None:
    version = trained(*houses(1_000, 0), tmp_path / "v1", "regression", 600)
    examples, price = houses(500, 1)
    said = version.predict(examples)
    assert said.shape == (500,)
    assert version.labels == ()
    assert np.mean((said - price) ** 2) < 0.2 * price.var()  # 0.1 of it is noise and missing


def test_outliers_among_the_targets_move_little(tmp_path: Path) -> None:
    examples, price = houses(600, 0)
    price[::100] = 1e12  # a unit that was mistaken
    version = trained(examples, price, tmp_path / "v1", "regression", 400)
    asked, truth = houses(300, 1)
    assert np.median(np.abs(version.predict(asked) - truth)) < 0.6 * truth.std()


@pytest.mark.parametrize("value", ["7", "0", "-1e9"])
def test_a_constant_target_is_answered(value: str, tmp_path: Path) -> None:
    examples, _ = houses(50, 0)
    version = trained(examples, [value] * 50, tmp_path / "v1", "regression", 20)
    assert version.predict(examples[:3]) == pytest.approx(float(value))


features = st.dictionaries(
    st.sampled_from(["x", "plan", "new", ""]),
    st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.integers(), st.floats(width=64)),
)
targets = st.floats(-1e100, 1e100)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(features, targets), min_size=1, max_size=12),
    st.lists(features, min_size=1, max_size=4),
)
def test_no_number_is_ever_nan(
    rows: list[tuple[dict[str, Scalar], float]], asked: list[dict[str, Scalar]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        examples = [Example("", None, one) for one, _ in rows]
        version = trained(
            examples, [value for _, value in rows], Path(folder) / "v1", "regression", 5
        )
        said = version.predict([Example("", "strange", one) for one in asked])
    assert all(math.isfinite(one) for one in said)


def test_a_rare_class_has_honest_probabilities(tmp_path: Path) -> None:
    def visitors(n: int, seed: int) -> tuple[list[Example], list[str], np.ndarray]:
        rng = np.random.default_rng(seed)
        x, noise, plan = rng.normal(size=n), rng.normal(size=n), rng.choice(["a", "b"], n)
        p = 1 / (1 + np.exp(6 - 1.5 * x * np.where(plan == "a", 1, -1)))
        made = [
            Example("", None, {"x": float(x[i]), "noise": float(noise[i]), "plan": str(plan[i])})
            for i in range(n)
        ]
        return made, np.where(rng.random(n) < p, "yes", "no").tolist(), p

    examples, labels, _ = visitors(5_000, 0)
    assert 0.005 < labels.count("yes") / 5_000 < 0.015
    version = trained(examples, labels, tmp_path / "v1", "classification", 600)
    asked, actual, truth = visitors(5_000, 1)
    said = version.predict(asked)[:, version.labels.index("yes")]
    assert said.mean() == pytest.approx(truth.mean(), rel=0.5)
    area = roc_auc(said, np.array(actual) == "yes")
    best = roc_auc(truth, np.array(actual) == "yes")
    assert area is not None and best is not None
    assert area > best - 0.08


def test_a_run_of_numbers_learns_judges_and_starts_from_its_parent(tmp_path: Path) -> None:
    examples, price = houses(400, 0)
    rows = [
        LabeledExample(f"r{i}", NOW + timedelta(minutes=i), NOW, one, str(price[i]))
        for i, one in enumerate(examples)
    ]
    rows[3] = LabeledExample("r3", rows[3].event_time, NOW, examples[3], "unknown")
    claim = Claim("m/1", "m", "w", "run", 1, NOW, NOW, NOW)
    dataset, policy = Dataset("d", {}, "", rows), GatePolicy(metric="log_loss")
    brief = Brief(claim, dataset, None, None, policy, tmp_path, Marks(), "regression")
    folder = tmp_path / "draft"
    folder.mkdir()
    outcome = run.train(brief, folder, lambda _: None)
    assert outcome.promoted, outcome.reason
    assert outcome.reason.startswith("mae on the 59 newest examples")
    assert outcome.metrics["finetune"]["examples"] < 400
    train = [TrainingExample(row.example, row.label) for row in rows if row.label != "unknown"]
    second = tmp_path / "second"
    second.mkdir()
    data = TrainingSet("m", "regression", train)
    report = tabular.fit(data, folder, tabular.Config(steps=5), lambda *_: None, second)
    assert report["warm_started"] is True

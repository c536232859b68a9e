"""Columns of older versions: they stay as they were, and answer to examples like theirs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from sklearn.naive_bayes import GaussianNB

from headrace.model.config import FinetuneConfig
from headrace.model.finetune import finetune
from headrace.model.recipe import TrainingExample
from headrace.model.seen import NEWEST, Seen, chances
from headrace.model.weights import HEAD_WEIGHTS, load_adapter, read_weights
from tests.trainer.clicks import clicks

CONFIG = FinetuneConfig(tabular_steps=300, head_lr=1e-2, columns=2)


def elsewhere(examples: list[TrainingExample]) -> list[TrainingExample]:
    """The same examples in another year, of whom the opposite is wanted."""
    return [
        replace(
            one,
            example=replace(one.example, features={**one.example.features, "year": 9.0}),
            label="no" if one.label == "yes" else "yes",
        )
        for one in examples
    ]


def years(n: int, seed: int) -> list[TrainingExample]:
    rng = np.random.default_rng(seed)
    return [
        replace(
            one,
            example=replace(
                one.example, features={**one.example.features, "year": float(rng.normal(3, 0.3))}
            ),
        )
        for one in clicks(n, seed)
    ]


def right(folder: Path, asked: list[TrainingExample]) -> float:
    version = load_adapter(folder)
    said = version.predict([one.example for one in asked]).argmax(1)
    truth = [version.labels.index(one.label) for one in asked]
    return float((said == truth).mean())


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three versions, of which the last two learned other examples than the first."""
    folder = tmp_path_factory.mktemp("columns")
    made: list[Path] = []
    for number, train in enumerate([years(900, 0), *(elsewhere(years(900, n)) for n in (1, 2))]):
        artifact = finetune(train, made[-1] if made else None, CONFIG)
        assert artifact.report["columns"] == min(number + 1, 2)
        made.append(folder / f"v{number + 1}")
        artifact.save(made[-1])
    return made


def test_an_older_column_stays_bit_for_bit_also_when_no_more_may_be_added(
    versions: list[Path],
) -> None:
    first, second, third = (read_weights(folder, HEAD_WEIGHTS) for folder in versions)
    for name, value in first.items():
        assert torch.equal(second[f"parent.{name}"], value), name
        assert torch.equal(third[f"parent.{name}"], value), name
    assert not torch.equal(second["wide"], third["wide"])
    assert second["tabular.2.weight"].shape[1] == 2 * first["tabular.2.weight"].shape[1]


def test_old_examples_are_answered_by_the_old_column(versions: list[Path], tmp_path: Path) -> None:
    old, new = years(400, 8), elsewhere(years(400, 9))
    assert right(versions[0], new) < 0.5
    for folder in versions[1:]:
        assert right(folder, old) > right(versions[0], old) - 0.02
        assert right(folder, new) > 0.8
    one_column = msgspec.structs.replace(CONFIG, columns=1)
    finetune(elsewhere(years(900, 1)), versions[0], one_column).save(tmp_path / "alone")
    assert right(tmp_path / "alone", old) < 0.5


def test_a_version_of_an_earlier_release_has_one_column(versions: list[Path]) -> None:
    state = read_weights(versions[0], HEAD_WEIGHTS)
    version = load_adapter(versions[0])
    asked = [one.example for one in years(50, 8)]
    before = version.predict(asked)
    version.head.read({name: value for name, value in state.items() if "seen" not in name})
    assert np.array_equal(version.predict(asked), before)


def test_naive_bayes_is_scikits() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(mean, (1, 2), (300, 2)) for mean in ([0, 0], [1, -1])]
    seen = [Seen(2, 8), Seen(2, 8)]
    nothing = torch.full((300, 1), -1)
    for one, group in zip(seen, groups, strict=True):
        one.learn(torch.from_numpy(np.hstack([group, np.zeros_like(group)])), nothing)
    asked = rng.normal(size=(50, 2))
    oracle = GaussianNB(priors=[NEWEST, 1 - NEWEST], var_smoothing=0)
    oracle.fit(np.concatenate(groups), np.repeat([0, 1], 300))
    numbers = torch.from_numpy(np.hstack([asked, np.zeros_like(asked)]))
    found = chances([one(numbers, nothing[:50]) for one in seen])
    np.testing.assert_allclose(found.T, oracle.predict_proba(asked), atol=1e-6)
    # A number that is missing tells nothing, and a name tells by how often it occurred.
    numbers[:, :2], numbers[:, 2:] = 0.0, 1.0
    assert chances([one(numbers, nothing[:50]) for one in seen])[0, 0] == pytest.approx(NEWEST)
    seen[1].learn(numbers, torch.full((50, 1), 3))
    of_it = chances([one(numbers, torch.full((50, 1), 3)) for one in seen])[1, 0]
    assert of_it == pytest.approx(1 / (1 + NEWEST / (1 - NEWEST) * (1 / 8) / (51 / 58)))

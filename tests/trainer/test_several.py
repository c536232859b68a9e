"""A fit in two processes on the CPU: what it learns is what one process learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from headrace.errors import ModelError, NothingToLearnError
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample, TrainingSet
from headrace.trainer.recipes import generation, preference
from headrace.trainer.recipes._several import fit_in_processes
from tests.support.language_models import make_base
from tests.trainer.recipes import dying

KNOWN = [(f"capital of country {n}", f"city {n * 7 % 13} of {n}") for n in range(23)]
Fit = Callable[..., NDArray[Any]]


def examples(count: int = len(KNOWN)) -> TrainingSet:
    """Prompts with a right answer and a wrong one, of different weights."""
    return TrainingSet(
        "m",
        "generation",
        [
            TrainingExample(Example(prompt), answer, weight=1 + at % 3, rejected="city 1")
            for at, (prompt, answer) in enumerate(KNOWN[:count])
        ],
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_base(tmp_path_factory.mktemp("base"), KNOWN, steps=5)


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Train with settings; return all matrices B, one after the other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def train(recipe: Any, name: str, **settings: Any) -> NDArray[Any]:
        config = recipe.Config(**{"rank": 4, "lr": 0.01, "batch_tokens": 130} | settings)
        folder = tmp_path / name
        folder.mkdir()
        losses: list[float | None] = []
        report = recipe.fit(examples(), None, config, lambda *said: losses.append(said[2]), folder)
        assert losses
        assert report["train_loss"] == pytest.approx(losses[-1], abs=1e-4)
        assert report.get("processes", 1) == config.processes
        matrices = load_file(folder / "adapter_model.safetensors")
        return np.concatenate(
            [matrices[one].ravel() for one in sorted(matrices) if "lora_B" in one]
        )

    return train


def same(one: NDArray[Any], other: NDArray[Any]) -> None:
    """But for what bfloat16 rounds off, where the machine has it."""
    assert one.shape == other.shape
    assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(one)


@pytest.mark.parametrize("shard", ["never", "always"])
def test_two_processes_learn_what_one_learns(fit: Fit, base: str, shard: str) -> None:
    alone = fit(generation, "one", base=base, processes=1)
    same(alone, fit(generation, "two", base=base, processes=2, shard=shard))


def test_two_processes_learn_preferences(fit: Fit, base: str) -> None:
    """The reference is what the sharded base says without its matrices."""
    settings = {"method": "dpo", "base": base, "beta": 1.0}
    alone = fit(preference, "one", processes=1, **settings)
    same(alone, fit(preference, "two", processes=2, shard="always", **settings))


def test_two_processes_learn_rewards(fit: Fit) -> None:
    """An encoder stays whole, whatever is asked."""
    settings = {"epochs": 1, "lr": 1e-3}
    alone = fit(preference, "one", processes=1, **settings)
    same(alone, fit(preference, "two", processes=2, shard="always", **settings))


@pytest.mark.parametrize(("count", "total"), [(3, 12), (1, 3)])
def test_each_takes_a_share_and_the_first_one_writes(
    tmp_path: Path, count: int, total: int
) -> None:
    told: list[Any] = []
    report = fit_in_processes(
        dying.__name__, 2, examples(count), None, dying.Config(),
        lambda *said: told.append(said), tmp_path,
    )  # fmt: skip
    assert report == {"total": total, "size": 2, "processes": 2}
    assert told == [(1, 1, total)]
    assert [one.name for one in tmp_path.iterdir()] == ["written"]


def test_a_process_that_is_killed_ends_all_with_one_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^one of 2 processes ended: "):
        fit_in_processes(
            dying.__name__, 2, examples(), None, dying.Config("dies"), lambda *_: None, tmp_path
        )


def test_an_error_of_the_recipe_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(NothingToLearnError, match=r"^it is all the same$"):
        fit_in_processes(
            dying.__name__, 2, examples(), None, dying.Config("refuses"), lambda *_: None, tmp_path
        )

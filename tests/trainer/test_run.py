"""A run from its brief to its outcome: who the rival is, and on what both are compared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.control.claims import Claim
from headrace.errors import ModelError
from headrace.model.network import Adapter
from headrace.trainer import run
from headrace.trainer.activations import predict_cached
from headrace.trainer.brief import Brief, Champion, Marks
from headrace.trainer.dataset import Dataset, LabeledExample
from headrace.trainer.finetune import FinetuneConfig, TrainingExample, finetune
from headrace.trainer.gate import GatePolicy
from tests.trainer.clicks import clicks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLAIM = Claim("m/1", "m", "w", "run", 1, NOW, NOW, NOW)
COUNT, HELD_OUT = 300, 45


def champion(
    folder: Path, train_to: datetime | None = None, names: dict[str, str] | None = None
) -> Champion:
    """A version that learned from as many other clicks."""
    place = folder / "m" / "v1"
    names = names or {"yes": "yes", "no": "no"}
    parent = [TrainingExample(one.example, names[one.label]) for one in clicks(COUNT, 4)]
    finetune(parent, config=FinetuneConfig(tabular_steps=50)).save(place, "v1")
    return Champion("v1", str(place), train_to)


def train(folder: Path, rival: Champion | None) -> run.Outcome:
    rows = [
        LabeledExample(f"r{i}", NOW + timedelta(minutes=i), NOW, one.example, one.label)
        for i, one in enumerate(clicks(COUNT, 5))
    ]
    dataset, policy = Dataset("d", {}, "", rows), GatePolicy(suspect_auc=1)
    brief = Brief(CLAIM, dataset, rival, "yes", policy, folder, Marks())
    return run.train(brief, lambda _: None)


def test_the_champion_is_compared_on_what_came_after_its_training(tmp_path: Path) -> None:
    half = NOW + timedelta(minutes=COUNT - 1 - 30)
    outcome = train(tmp_path, champion(tmp_path, train_to=half))
    gate = outcome.metrics["gate"]
    assert gate["against"] == "v1"
    assert gate["left_out"]["seen"] == HELD_OUT - 30
    assert gate["candidate"]["holdout"]["n"] == gate["champion"]["holdout"]["n"] == 30
    assert outcome.metrics["baseline_rows"] == HELD_OUT
    assert "without 15 of the time that v1 was trained on" in outcome.reason


def test_a_champion_that_was_trained_on_everything_judges_nothing(tmp_path: Path) -> None:
    outcome = train(tmp_path, champion(tmp_path, train_to=NOW + timedelta(days=9)))
    assert not outcome.promoted
    assert outcome.candidate is None
    assert outcome.reason.startswith("no newest example to compare on, without 45 of the time")


def test_a_champion_of_other_labels_is_no_rival(tmp_path: Path) -> None:
    other = champion(tmp_path, names={"yes": "click", "no": "none"})
    outcome = train(tmp_path, other)
    assert outcome.metrics["gate"]["against"] == "the prior"
    assert outcome.metrics["gate"]["left_out"]["unknown"] == 0


def test_a_champion_without_numbers_is_easily_beaten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Adapter] = []

    def only_the_first(adapter: Adapter, *rest: Any) -> NDArray[np.float32]:
        asked.append(adapter)
        said = predict_cached(adapter, *rest)
        return said if adapter is asked[0] else said * np.nan

    monkeypatch.setattr("headrace.trainer.run.predict_cached", only_the_first)
    outcome = train(tmp_path, champion(tmp_path))
    assert outcome.promoted
    assert outcome.metrics["gate"]["against"] == "v1"


def test_a_candidate_without_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "headrace.trainer.run.predict_cached", lambda *asked: predict_cached(*asked) * np.nan
    )
    with pytest.raises(ModelError, match="probabilities are not finite"):
        train(tmp_path, None)

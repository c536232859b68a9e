"""A run from its brief to its outcome: who the rival is, and on what both are compared."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.control.claims import Claim
from headrace.declared import Declared
from headrace.errors import ModelError, SettingError
from headrace.model.artifact import Manifest, keep_as_judged, read_manifest
from headrace.model.config import FinetuneConfig
from headrace.model.corrections import SURE, input_key
from headrace.model.examples import LabeledExample, Logged
from headrace.model.finetune import finetune
from headrace.model.inputs import Example
from headrace.model.network import Adapter
from headrace.model.recipe import Task, TrainingExample, TrainingSet
from headrace.model.weights import load_adapter
from headrace.trainer import run
from headrace.trainer.brief import Brief, Champion, Marks
from headrace.trainer.compare import evaluate
from headrace.trainer.dataset import Dataset
from headrace.trainer.gate import GatePolicy
from headrace.trainer.recipes import load, tabular
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
    finetune(parent, config=FinetuneConfig(tabular_steps=50)).save(place)
    return Champion("v1", str(place), train_to)


def train(
    folder: Path,
    rival: Champion | None,
    logged: Callable[[str], Logged | None] = lambda _: None,
) -> run.Outcome:
    """Train on clicks; `logged` is what was answered where a label came."""
    rows = [
        LabeledExample(
            f"r{i}", NOW + timedelta(minutes=i), NOW, one.example, one.label,
            logged=logged(one.label),
        )
        for i, one in enumerate(clicks(COUNT, 5))
    ]  # fmt: skip
    return train_rows(folder, rows, rival)


def train_as(folder: Path, declared: Declared, task: Task = "classification") -> run.Outcome:
    """Train on clicks by a declaration."""
    rows = [
        LabeledExample(f"r{i}", NOW + timedelta(minutes=i), NOW, one.example, one.label)
        for i, one in enumerate(clicks(COUNT, 5))
    ]
    return train_rows(folder, rows, declared=declared, task=task)


def train_rows(
    folder: Path,
    rows: Sequence[LabeledExample],
    rival: Champion | None = None,
    **how: Any,
) -> run.Outcome:
    dataset, policy = Dataset("d", {}, "", rows), GatePolicy(suspect_auc=1)
    brief = Brief(CLAIM, dataset, rival, "yes", policy, folder, Marks(), **how)
    draft = folder / "draft"
    draft.mkdir()
    return run.train(brief, draft, lambda _: None)


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


def without_numbers(monkeypatch: pytest.MonkeyPatch, *which: int) -> None:
    """Have some of the versions, in the order in which they are asked, answer NaN."""
    predict, asked = Adapter.predict, list[Adapter]()

    def spoiled(adapter: Adapter, examples: Sequence[Example]) -> NDArray[np.float32]:
        if adapter not in asked:
            asked.append(adapter)
        said = predict(adapter, examples)
        return said * np.float32("nan") if asked.index(adapter) in which else said

    monkeypatch.setattr(Adapter, "predict", spoiled)


def test_a_champion_without_numbers_is_easily_beaten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_numbers(monkeypatch, 0)
    outcome = train(tmp_path, champion(tmp_path))
    assert outcome.promoted
    assert outcome.metrics["gate"]["against"] == "v1"


def test_a_candidate_without_numbers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_numbers(monkeypatch, 0)
    with pytest.raises(ModelError, match="probabilities are not finite"):
        train(tmp_path, None)


def server(right: float, sure: float, *, scores: bool = True) -> Callable[[str], Logged]:
    """A version of somebody else's that is so often right, and so sure of it."""
    rng = np.random.default_rng(0)

    def logged(label: str) -> Logged:
        said = label if rng.random() < right else {"yes": "no", "no": "yes"}[label]
        p = sure if said == "yes" else 1 - sure
        return Logged("theirs", said, p if scores else None)

    return logged


@pytest.mark.parametrize("known", [None, Champion("theirs", "s3://elsewhere/model")])
def test_a_version_of_somebody_else_is_measured_by_what_it_answered(
    tmp_path: Path, known: Champion | None
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        folder.mkdir()
    beaten = train(bad, known, server(0.5, 0.95))
    assert beaten.promoted
    assert beaten.metrics["gate"]["against"] == "theirs, as it was logged"
    better = train(good, known, server(0.999, 0.999))
    assert not better.promoted
    assert better.metrics["gate"]["champion"]["holdout"]["log_loss"] < 0.1


def test_a_version_that_logs_no_scores_is_compared_by_accuracy(tmp_path: Path) -> None:
    outcome = train(tmp_path, None, server(0.6, 0.6, scores=False))
    assert outcome.promoted
    assert outcome.reason.startswith("accuracy on the 45 newest examples")
    assert outcome.metrics["gate"]["champion"]["holdout"]["accuracy"] > 0.4


def test_what_another_version_answered_is_left_out(tmp_path: Path) -> None:
    turns = itertools.cycle([*["theirs"] * 3, "another"])
    answer = server(0.5, 0.95)
    outcome = train(tmp_path, None, lambda label: replace(answer(label), model_version=next(turns)))
    assert outcome.metrics["gate"]["left_out"]["unknown"] == pytest.approx(HELD_OUT / 4, abs=1)


def test_a_recipe_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="recipe tabular is for"):
        train_as(tmp_path, Declared(recipe="tabular"), "generation")


def test_only_the_declared_features_are_read(tmp_path: Path) -> None:
    outcome = train_as(tmp_path, Declared(features=("age",)))
    assert not outcome.promoted
    assert outcome.candidate is not None
    assert outcome.candidate.manifest.features == ("age",)


def test_a_rival_is_asked_with_the_features_that_it_learned(tmp_path: Path) -> None:
    rows = [
        LabeledExample(f"r{i}", NOW + timedelta(minutes=i), NOW, one.example, one.label)
        for i, one in enumerate(clicks(COUNT, 5))
    ]
    outcome = train_rows(tmp_path, rows, champion(tmp_path), declared=Declared(features=("age",)))
    assert outcome.candidate is not None
    version = load_adapter(tmp_path / "m" / "v1")
    p = version.predict([row.example for row in rows[-HELD_OUT:]])
    alone = evaluate(p, [row.label for row in rows[-HELD_OUT:]], version.labels)
    assert outcome.candidate.rival["log_loss"] == pytest.approx(alone.log_loss)


def test_a_correction_holds_where_features_are_declared(tmp_path: Path) -> None:
    outcome = train_as(tmp_path, Declared(features=("age",)))
    assert outcome.candidate is not None
    (asked,) = (one.example for one in clicks(1, 6))
    manifest = msgspec.structs.replace(
        outcome.candidate.manifest, corrections={input_key(asked): "yes"}
    )
    (outcome.candidate.folder / "version.json").write_bytes(msgspec.json.encode(manifest))
    _, version = load(outcome.candidate.folder)
    assert version.predict([asked])[0, version.labels.index("yes")] == pytest.approx(SURE)


@pytest.mark.parametrize("promoted", [True, False])
def test_a_version_that_passed_learns_what_it_was_judged_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promoted: bool
) -> None:
    given: list[set[str]] = []

    def complete(dataset: TrainingSet, _: object, __: Path) -> dict[str, int]:
        given.append({one.request_id for one in dataset.examples})
        return {"completed": len(dataset.examples)}

    monkeypatch.setattr(tabular, "complete", complete, raising=False)
    outcome = train(tmp_path, None, server(0.5, 0.95) if promoted else server(0.999, 0.999))
    assert outcome.promoted is promoted
    newest = {f"r{i}" for i in range(COUNT - HELD_OUT, COUNT)}
    trained_to = datetime.fromtimestamp(outcome.metrics["train_to"], UTC)
    assert (trained_to == NOW + timedelta(minutes=COUNT - 1)) is promoted
    assert outcome.candidate is not None
    report = outcome.candidate.manifest.report
    judged = tmp_path / "draft" / "judged"
    if promoted:
        (learned,) = given
        edge = NOW + timedelta(minutes=COUNT - HELD_OUT - 1)
        assert read_manifest(judged).learned_to == edge.timestamp()
        assert newest <= learned
        assert report["completed"] == len(learned) < COUNT  # old ones are held out for ever
    else:
        assert not given and not judged.exists()
        assert "completed" not in report


def test_a_champion_is_compared_as_it_was_judged(tmp_path: Path) -> None:
    completed = champion(tmp_path, train_to=NOW + timedelta(days=9))
    half = NOW + timedelta(minutes=COUNT - 1 - 30)
    judged = Manifest(
        recipe="tabular",
        task="classification",
        labels=("no", "yes"),
        learned_to=half.timestamp(),
    )
    keep_as_judged(Path(completed.artifact_uri), judged)
    outcome = train(tmp_path, completed)
    assert outcome.metrics["gate"]["left_out"]["seen"] == HELD_OUT - 30
    assert outcome.metrics["gate"]["champion"]["holdout"]["n"] == 30

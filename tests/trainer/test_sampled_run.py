"""A run that samples as its model declares: what is trained, judged and served."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.control.claims import Claim
from headrace.control.plan import Served
from headrace.declared import Declared, read_declared
from headrace.engine import Engine
from headrace.errors import SettingError
from headrace.gateway.loader import Loader
from headrace.model.artifact import publish_draft
from headrace.model.examples import LabeledExample
from headrace.model.recipe import Task
from headrace.model.sampling import Sampling
from headrace.settings import Settings
from headrace.trainer import run
from headrace.trainer.brief import Brief, Marks
from headrace.trainer.card import model_card
from headrace.trainer.dataset import Dataset
from headrace.trainer.gate import GatePolicy
from headrace.trainer.paired import examples_needed
from headrace.trainer.recipes import find
from headrace.trainer.training_set import training_set
from tests.trainer.clicks import clicks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLAIM = Claim("m/1", "m", "w", "run", 1, NOW, NOW, NOW)
CONFIG = {"steps": 30}


def brief(folder: Path, sampling: Sampling, task: Task = "classification") -> Brief:
    """Clicks of which one in eight is a yes."""
    made = [one for i, one in enumerate(clicks(1_200, 5)) if one.label == "no" or i % 7 == 0]
    written = {"yes": "1", "no": "0"} if task == "ranking" else {"yes": "yes", "no": "no"}
    rows = [
        LabeledExample(f"r{i}", NOW + timedelta(minutes=i), NOW, one.example, written[one.label])
        for i, one in enumerate(made)
    ]
    declared = Declared(recipe="tabular", config=CONFIG, sampling=sampling)
    policy = GatePolicy(suspect_auc=1)
    dataset = Dataset("d", {}, "", rows)
    return Brief(CLAIM, dataset, None, "yes", policy, folder, Marks(), task, declared)


def draft(root: Path) -> Path:
    folder = root / "m" / ".draft-run-1"
    folder.mkdir(parents=True)
    return folder


def test_balanced_classes_are_judged_and_served_at_their_true_shares(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    folder = draft(settings.artifacts_path)
    task = brief(folder, Sampling(weights="balance"))
    outcome = run.train(task, folder, lambda _: None)
    assert outcome.candidate is not None
    manifest, said = outcome.candidate.manifest, outcome.metrics["finetune"]["sampling"]
    assert manifest.shift[1] < -1 < 0 < manifest.shift[0] < 1
    assert said["given"] == said["kept"] and said["shift"]["yes"] < -1
    card = model_card(CLAIM, outcome, outcome.candidate)
    assert f"- **Sampling**: given {said['given']}, " in card

    place = publish_draft(folder, "m", "v1", manifest, card)
    engine = Engine("", settings)
    served = Loader(engine).load(Served("m", "v1", "champion", 1.0, str(place))).predictor
    rows = task.dataset.rows
    raw = find("tabular").load(place).predict([row.example for row in rows])
    p = served.predict([row.example for row in rows])
    rate = np.mean([row.label == "yes" for row in rows])
    assert raw[:, 1].mean() > 1.5 * rate
    assert p[:, 1].mean() == pytest.approx(rate, rel=0.25)
    newest = task.dataset.split(examples_needed(run.USUAL_SPREAD))[1]
    of_truth = p[-len(newest) :][range(len(newest)), [int(row.label == "yes") for row in newest]]
    judged = outcome.candidate.holdout["log_loss"]
    assert judged == pytest.approx(-np.log(of_truth).mean(), rel=1e-4)


def test_the_run_is_trained_on_the_sample(tmp_path: Path) -> None:
    folder = draft(tmp_path)
    task = brief(folder, Sampling(examples=200, recent=1.0))
    outcome = run.train(task, folder, lambda _: None)
    train, _, _ = task.dataset.split(examples_needed(run.USUAL_SPREAD))
    assert outcome.metrics["finetune"]["examples"] == 200
    assert outcome.metrics["train_from"] == train[-200].event_time.timestamp()
    assert outcome.candidate is not None and outcome.candidate.manifest.shift == ()


def test_what_has_no_classes_is_not_balanced(tmp_path: Path) -> None:
    ranked = brief(tmp_path, Sampling(by="balance"), "ranking")
    with pytest.raises(SettingError, match="balance needs classes, the task is ranking"):
        training_set(ranked, ranked.dataset.rows, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"halflife": 3}, "models.m.sampling: 'halflife' is no key; did you mean 'half_life'?"),
        ({"recent": 1.5}, "recent: must be a number <= 1.0, got 1.5"),
        ({"by": "luck"}, "by: must be one of reservoir, uncertainty, balance, got 'luck'"),
    ],
)
def test_a_sampling_that_is_not_known_is_refused(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    lines = [f"{name} = {value!r}" for name, value in given.items()]
    file = tmp_path / "headrace.toml"
    file.write_text("\n".join(["[models.m.sampling]", *lines]))
    with pytest.raises(SettingError) as caught:
        read_declared(file)
    assert said in str(caught.value)

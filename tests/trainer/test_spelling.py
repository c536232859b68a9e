"""Labels of one class in several spellings are one label to a run, and to its parent."""

from __future__ import annotations

import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headrace.control.claims import Claim
from headrace.model.config import FinetuneConfig
from headrace.model.examples import LabeledExample
from headrace.model.finetune import finetune
from headrace.model.recipe import TrainingExample
from headrace.trainer.brief import Brief, Champion, Marks
from headrace.trainer.dataset import Dataset
from headrace.trainer.gate import GatePolicy
from headrace.trainer.run import Outcome, train
from tests.trainer.clicks import clicks

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLAIM = Claim("m/1", "m", "w", "run", 1, NOW, NOW, NOW)


def run(spelled: dict[str, list[str]], champion: Champion | None, folder: Path) -> Outcome:
    """Train on clicks, of which each label is written in one of several ways."""
    rng = random.Random(3)
    rows = [
        LabeledExample(
            f"r{number}", NOW + timedelta(minutes=number), NOW, one.example,
            rng.choice(spelled[one.label]),
        )
        for number, one in enumerate(clicks(300, 5))
    ]  # fmt: skip
    dataset = Dataset("d", {}, "", rows)
    brief = Brief(CLAIM, dataset, champion, "1", GatePolicy(suspect_auc=1), folder, Marks())
    draft = Path(tempfile.mkdtemp(dir=folder))
    return train(brief, draft, lambda _: None)


@pytest.mark.parametrize("old", [("true", "false"), ("True", "0"), ("1", "0")])
def test_a_run_learns_one_label_of_each_class(tmp_path: Path, old: tuple[str, str]) -> None:
    folder = tmp_path / "m" / "v1"
    words = {"yes": old[0], "no": old[1]}
    parent = [TrainingExample(one.example, words[one.label]) for one in clicks(300, 4)]
    finetune(parent, config=FinetuneConfig(tabular_steps=50)).save(folder)
    spelled = {"yes": ["1", "1.0", "true", "TRUE"], "no": ["0", "False", "-0.0"]}

    mixed = run(spelled, Champion("v1", str(folder)), tmp_path)
    assert mixed.candidate is not None
    manifest = mixed.candidate.manifest
    assert set(manifest.labels) == {"0", "1"}
    assert manifest.positive_label == mixed.metrics["positive_label"] == "1"
    assert manifest.report["warm_started"] is True
    plain = run({"yes": ["1"], "no": ["0"]}, Champion("v1", str(folder)), tmp_path)
    assert mixed.metrics["gate"] == plain.metrics["gate"]
    assert plain.candidate and mixed.candidate.rival == plain.candidate.rival
    # A label that the rival did not know would cost 16 nats.
    assert mixed.candidate.rival["log_loss"] < 1


def test_the_commonest_spelling_is_the_label(tmp_path: Path) -> None:
    spelled = {"yes": ["Fraud", "Fraud", "fraud"], "no": ["ok", "OK ", "ok"]}
    outcome = run(spelled, None, tmp_path)
    assert outcome.candidate is not None
    assert outcome.candidate.manifest.labels == ("Fraud", "ok")

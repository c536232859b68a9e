"""docs/recipes.md: its tables are fresh, and each recipe in it makes a version that answers."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.control.claims import Claim
from headrace.declared import Declared, read_declared
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.trainer import run
from headrace.trainer.brief import Brief, Marks
from headrace.trainer.dataset import Dataset
from headrace.trainer.gate import GatePolicy
from headrace.trainer.recipes import find
from tests.support import blocks
from tests.trainer.clicks import clicks

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recipes.md"
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_recipes.py"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BLOCKS = [block for block in blocks.blocks() if block.page == PAGE]
DECLARATIONS = [block for block in BLOCKS if block.language == "toml"]


def test_page_is_fresh() -> None:
    page = PAGE.read_text()
    assert page == GENERATOR["render"](page), "run python docs/generate_recipes.py"


def test_every_setting_has_its_row() -> None:
    page = PAGE.read_text()
    for setting in ("`options`", "`predict_timeout_s`", "`text_examples`", "`max_slice_drop`"):
        assert f"| {setting} |" in page


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a user who has copied the files of the page."""
    for block in BLOCKS:
        if "file" in block.options:
            (tmp_path / blocks.file_name(block)).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


def label(declared: Declared, example: Example, said: str) -> str:
    if declared.task != "regression":
        return said
    return str(10 if example.features["plan"] == "pro" else 20)


def trained(model: str, declared: Declared, folder: Path) -> tuple[run.Outcome, Path]:
    rows = [
        LabeledExample(
            f"r{i}", NOW + timedelta(minutes=i), NOW, one.example,
            label(declared, one.example, one.label),
        )
        for i, one in enumerate(clicks(300, 5))
    ]  # fmt: skip
    claim = Claim(f"{model}/1", model, "w", "run", 1, NOW, NOW, NOW)
    brief = Brief(
        claim, Dataset("d", {}, "", rows), None, None, GatePolicy(suspect_auc=1), folder, Marks(),
        declared.task or "classification", declared,
    )  # fmt: skip
    draft = folder / "draft"
    draft.mkdir()
    return run.train(brief, draft, lambda _: None), draft


def test_what_the_page_declares_is_what_is_tried() -> None:
    assert len(DECLARATIONS) == 5
    assert len([block for block in BLOCKS if "file" in block.options]) == 4


@pytest.mark.parametrize("block", DECLARATIONS, ids=str)
def test_a_recipe_of_the_page_makes_a_version_that_answers(
    place: Path, block: blocks.Block
) -> None:
    (place / "headrace.toml").write_text(block.text)
    ((model, declared),) = read_declared(place / "headrace.toml").items()
    outcome, draft = trained(model, declared, place)
    assert outcome.candidate is not None, outcome.reason
    assert outcome.metrics["finetune"], outcome.metrics
    published = draft.rename(place / "v1")
    version = find(declared.recipe).load(published)
    asked = [Example("", "eu", {"plan": "pro", "price": 30.0, "age": 0.0}), Example()]
    answers = version.predict(asked)
    expected: Any = {"regression": (2,)}.get(declared.task or "", (2, 2))
    assert answers.shape == expected and np.isfinite(answers).all()


def test_the_function_of_the_page_learns(place: Path) -> None:
    block = next(one for one in DECLARATIONS if '"python"' in one.text)
    (place / "headrace.toml").write_text(block.text)
    declared = read_declared(place / "headrace.toml")["churn"]
    outcome, _ = trained("churn", declared, place)
    assert outcome.promoted, outcome.reason
    assert outcome.metrics["finetune"]["trees"] == 50
    assert outcome.candidate is not None and outcome.candidate.holdout["auc"] > 0.85

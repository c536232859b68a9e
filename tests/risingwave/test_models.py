"""Every model compiles for RisingWave and keeps its rules; what is special there is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from headrace.settings import project_path
from tests.support.risingwave_select import ACCEPTED, Model, raw_violations, read, violations
from tests.support.risingwave_words import JSONB

ENGINES = (project_path("dbt_project").parent / "docs" / "engines.md").read_text()


@pytest.fixture(scope="module")
def models(risingwave_target: Path) -> dict[str, Model]:
    """Every model as compiled for RisingWave, with nothing there to connect to."""
    compiled = risingwave_target / "compiled" / "headrace" / "models"
    return {path.stem: read(path.stem, path.read_text()) for path in compiled.glob("*/*.sql")}


def test_every_model_compiles_and_keeps_the_rules(models: dict[str, Model]) -> None:
    assert set(models) == {path.stem for path in project_path("dbt_project").glob("models/*/*.sql")}
    found = [f"{name}: {text}" for name in sorted(models) for text in violations(models[name])]
    assert found == []


def test_what_is_accepted_still_happens(models: dict[str, Model]) -> None:
    for name, accepted in ACCEPTED.items():
        found = raw_violations(models[name])
        for beginning in accepted:
            assert any(text.startswith(beginning) for text in found), f"{name}: {beginning}"


def test_json_columns_are_known_by_name() -> None:
    for path in project_path("dbt_project").glob("models/*/*.yml"):
        for model in yaml.safe_load(path.read_text()).get("models", []):
            types = {column["name"]: column.get("data_type") for column in model["columns"]}
            assert {name for name, type_ in types.items() if type_ == "jsonb"} <= JSONB, path


def test_every_dispatched_macro_is_written_for_both_and_documented() -> None:
    macros = "\n".join(path.read_text() for path in project_path("dbt_project").rglob("*.sql"))
    dispatched = set(re.findall(r"adapter\.dispatch\(\s*'(\w+)'", macros))
    assert dispatched >= {"pane_start", "as_inlined"}
    for engine in ("default", "postgres", "risingwave"):  # it falls back on postgres__ first
        assert dispatched <= set(re.findall(rf"macro {engine}__(\w+)\(", macros)), engine
    replaced = set(re.findall(r"macro (?:default|postgres|risingwave)__(\w+)\(", macros))
    materialized = set(re.findall(r"materialization (\w+), adapter='risingwave'", macros))
    assert [
        name for name in dispatched | replaced | materialized if f"`{name}`" not in ENGINES
    ] == []


def test_every_accepted_violation_is_documented() -> None:
    for name, accepted in ACCEPTED.items():
        assert all(accepted.values())
        assert f"`{name}`" in ENGINES, name

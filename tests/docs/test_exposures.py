"""The exposures say what dashboards, trainer, gateway and Feast really read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "dbt_project" / "models"
EXPOSURES = yaml.safe_load((MODELS / "exposures.yml").read_text())["exposures"]
# Code that is no reader of its own: it stores events, makes or checks the views, or plays the demo.
NO_READERS = ("client.py", "events/", "demo/", "operate/doctor/", "deploy.py", "engine/")


def known() -> dict[str, str]:
    """The relations by name, each as an exposure refers to it."""
    found = {
        f"{schema}.{path.stem}": f"ref('{path.stem}')"
        for folder, schema in (("marts", "headrace"), ("panes", "panes"))
        for path in (MODELS / folder).glob("*.sql")
    }
    for source in yaml.safe_load((MODELS / "sources.yml").read_text())["sources"]:
        for table in source["tables"]:
            name = f"{source['schema']}.{table['name']}"
            found[name] = f"source('{source['name']}', '{table['name']}')"
    return found


def read_by(file: Path) -> set[str]:
    names = re.findall(r"\b(?:headrace|panes|events|control)\.\w+", file.read_text())
    return {known()[name] for name in names if name in known()}


def files(exposure: dict[str, Any]) -> set[Path]:
    patterns = exposure["config"]["meta"]["files"]
    return {path.resolve() for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}


@pytest.mark.parametrize("exposure", EXPOSURES, ids=lambda each: each["name"])
def test_it_names_what_its_files_read(exposure: dict[str, Any]) -> None:
    read = {name for file in files(exposure) for name in read_by(file)}
    assert read == set(exposure["depends_on"])


def test_every_reader_is_in_an_exposure() -> None:
    told = {file for exposure in EXPOSURES for file in files(exposure)}
    readers = {
        file
        for folder in ("headrace", "trainer", "dashboards", "feature_repo")
        for file in (ROOT / folder).resolve().rglob("*.py")
        if read_by(file)
        and not str(file.relative_to(ROOT.resolve()))
        .removeprefix("headrace/")
        .startswith(NO_READERS)
    }
    assert {str(file.relative_to(ROOT.resolve())) for file in readers - told} == set()

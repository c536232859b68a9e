"""A copy of the dbt project, for tests that change it."""

from __future__ import annotations

import shutil
from pathlib import Path

from headrace.settings import project_path


def copy_of_project(folder: Path) -> Path:
    """The project without its tests and descriptions, which take time to parse."""
    copy = folder / "dbt_project"
    shutil.copytree(
        project_path("dbt_project"), copy, ignore=shutil.ignore_patterns("target", "logs", "tests")
    )
    for path in copy.glob("models/*/*.yml"):
        path.unlink()
    return copy


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))

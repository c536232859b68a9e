"""What dbt compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def compiled(template: Any) -> dict[str, str]:
    """The compiled SELECT of every pane."""
    home: Path = template.folder.parent
    found = (home / "dbt" / "target" / "compiled").rglob("panes/*.sql")
    return {path.stem: path.read_text().replace('"headrace".', "") for path in found}

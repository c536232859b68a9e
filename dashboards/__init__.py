"""The dashboard of the loop: for Grafana, and drawn locally from the same JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def load() -> dict[str, Any]:
    """Return the Grafana dashboard in ``loop.json``."""
    dashboard: dict[str, Any] = json.loads((FOLDER / "loop.json").read_text("utf-8"))
    return dashboard

"""The tables of docs/scaling.md follow from the benchmark results."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_scaling.py"))
PAGE = (ROOT / "docs" / "scaling.md").read_text()


def test_page_is_fresh() -> None:
    assert GENERATOR["render"](PAGE) == PAGE, "run python docs/generate_scaling.py"
    for name in GENERATOR["TABLES"]:
        assert f"<!-- {name} -->" in PAGE


def test_figures_by_hand() -> None:
    # A billion predictions a day; three in ten get feedback, shadows excepted.
    assert GENERATOR["BILLION"] == pytest.approx(1e9 / 86_400 * 1.294)
    # 409 and 195 bytes of JSON: 360 per event; 15,000 per second for 14 days in three replicas.
    assert GENERATOR["MIXED"] == pytest.approx((409 + 0.294 * 195) / 1.294)
    # One process sends 19,648 events per second into Kafka, so one is enough.
    assert "| a billion predictions a day, on average | 14,977 | 5.4 | 16.2 | 19.6 | 1 |" in PAGE
    # Ten keys in every minute of two days.
    assert "| `inference_panes` | 1 minute | 10 | 2 days | 28,800 |" in PAGE
    assert "16,029" in PAGE and "64 cores" in PAGE

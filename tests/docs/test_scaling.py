"""The tables of docs/scaling.md follow from what the benchmarks measured."""

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
    # A billion answers a day, three opinions to ten of them but for shadows.
    assert GENERATOR["BILLION"] == pytest.approx(1e9 / 86_400 * 1.294)
    # 409 and 195 bytes of JSON: 360 an event; 15,000 a second of them for 14 days in three copies.
    assert GENERATOR["MIXED"] == pytest.approx((409 + 0.294 * 195) / 1.294)
    # A process sends 19,648 a second into Kafka, so that one is enough.
    assert "| a billion answers a day, on average | 14,977 | 5.4 | 16.2 | 19.6 | 1 |" in PAGE
    # Ten keys every minute of two days.
    assert "| `inference_panes` | 1 minute | 10 | 2 days | 28,800 |" in PAGE
    assert "16,029" in PAGE and "64 cores" in PAGE

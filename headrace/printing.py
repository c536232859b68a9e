"""What commands print: JSON for scripts, tables for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def print_json(value: object) -> int:
    """Print `value`, times and other objects as texts; return the exit code 0."""
    print(json.dumps(value, indent=2, default=str))
    return 0


def print_table(rows: Sequence[Mapping[str, Any]]) -> int:
    """Print rows of the same columns, or nothing where there are none; return the exit code 0."""
    if rows:
        cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
        for row in cells:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(padded).rstrip())
    return 0


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

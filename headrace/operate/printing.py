"""What commands print: JSON for scripts, tables for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

# How often a step that goes on is told of where lines stay, in seconds.
PACE_S = 1.0


class Steps:
    """Tells a person what is being done: `steps("views: 12/81")`.

    On a terminal the lines of one step, which is what they say before the colon, replace each
    other; elsewhere each step has its first line at once, and then one a second.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._step, self._told_at = "", 0.0

    def __call__(self, line: str) -> None:
        step, now = line.partition(":")[0], time.monotonic()
        if step == self._step:
            if self._stream.isatty():
                self._stream.write("\x1b[A\x1b[2K")
            elif now - self._told_at < PACE_S:
                return
        self._step, self._told_at = step, now
        print(line, file=self._stream, flush=True)


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
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    # Names are anybody's: what steers a terminal is shown instead.
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)

"""What commands print: JSON for scripts, tables for people."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

# Seconds between two lines of the same step where they do not replace each other.
PACE_S = 1.0


class Steps:
    """Print progress: `steps("views: 12/81")` is a line of the step `views`.

    On a terminal, the lines of one step replace each other. Elsewhere the first line of a step is
    printed at once, and then at most one a second.
    """

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._step, self._printed_at = "", 0.0

    def __call__(self, line: str) -> None:
        step, now = line.partition(":")[0], time.monotonic()
        if step == self._step:
            if self._stream.isatty():
                self._stream.write("\x1b[A\x1b[2K")
            elif now - self._printed_at < PACE_S:
                return
        self._step, self._printed_at = step, now
        print(line, file=self._stream, flush=True)


def print_json(value: object) -> None:
    """Print `value` as JSON; times and other objects as text."""
    print(json.dumps(value, indent=2, default=str))


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows that all have the same columns; nothing if there are none."""
    if rows:
        cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
        for row in cells:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  ".join(padded).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    # A name may hold control characters, which a terminal would obey: they are shown escaped.
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)

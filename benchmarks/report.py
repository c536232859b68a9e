"""Shared by the benchmarks: tables, lines of progress, and the machine measured on."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from headrace.engine import Engine

_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Report progress on standard error."""
    print(f"{time.monotonic() - _BEGAN:6.0f} s  {text}", file=sys.stderr, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format rows as Markdown: the first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def milliseconds(value: float) -> str:
    """Format milliseconds with their significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def short(number: int) -> str:
    """Format a round number: 100k, 5M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= size and number % size == 0:
            return f"{number // size}{unit}"
    return f"{number:,}"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


def pace() -> float:
    """Milliseconds of a fixed loop, best of three: the speed of shared machines varies."""
    times = []
    for _ in range(3):
        began, total = time.perf_counter(), 0
        for number in range(2_000_000):
            total += number
        times.append(1_000 * (time.perf_counter() - began))
    return min(times)


def machine(engine: Engine) -> str:
    """Describe in one line the machine measured on, and its speed at that moment."""
    version = engine.rows("select current_setting('server_version') as version")[0]["version"]
    return (
        f"{os.cpu_count()} cores ({_processor()}), PostgreSQL {version}, "
        f"Python {platform.python_version()}; 2M additions in Python took {pace():.0f} ms."
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.machine()

"""A gateway in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.engine import Engine


@contextmanager
def gateway(engine: Engine, **settings: str) -> Iterator[tuple[str, int]]:
    """Serve an engine, with more settings by their names; give address and id of the process."""
    environment = {
        **os.environ,
        "HEADRACE_DSN": engine.dsn,
        "HEADRACE_HOME": str(engine.settings.home),
        "HEADRACE_PORT": "0",
        **{f"HEADRACE_{name.upper()}": value for name, value in settings.items()},
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace.cli", "gateway"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.terminate()
        process.wait()

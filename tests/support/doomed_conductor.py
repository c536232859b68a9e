"""A conductor that kills itself (-9) at one moment of the step that it takes.

usage: python -m tests.support.doomed_conductor DSN HOME decided|written|committed
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import headrace.control.conductor
from headrace.control.conductor import Conductor
from headrace.engine import Engine
from headrace.events.tables import TableWriter
from headrace.settings import Settings


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(moment: str) -> None:
    """Have this process end at that moment."""
    write_if = TableWriter.write_if

    def commit_and_die(*arguments: Any) -> None:
        write_if(*arguments)
        die()

    if moment == "decided":
        TableWriter.write_if = die  # type: ignore[method-assign, assignment]
    elif moment == "written":
        headrace.control.conductor._is_next = die  # type: ignore[assignment]
    else:
        TableWriter.write_if = commit_and_die  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    dsn, home, moment = sys.argv[1:]
    die_at(moment)
    with Conductor(Engine(dsn, Settings(home=Path(home), dsn=dsn))) as conductor:
        conductor.take_steps()

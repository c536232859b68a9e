"""A trainer that takes the trigger and kills itself (-9) at one step of publishing.

usage: python -m tests.support.doomed_trainer DSN HOME drafted|renamed|stored|committed
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import headrace.trainer.publish
from headrace.control.claims import Heartbeat
from headrace.engine import Engine
from headrace.events.tables import TableWriter
from headrace.settings import Settings
from tests.support.promising import promising, taken

STEPS = ("drafted", "renamed", "stored", "committed")


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(step: str) -> None:
    """Have this process end at that step."""
    write_if = TableWriter.write_if

    def commit_and_die(*arguments: Any) -> None:
        write_if(*arguments)
        die()

    if step == "drafted":
        Path.rename = die  # type: ignore[method-assign, assignment]
    elif step == "renamed":
        headrace.trainer.publish._announce = die  # type: ignore[assignment]
    elif step == "stored":
        Heartbeat.finish_in = die  # type: ignore[method-assign, assignment]
    else:
        TableWriter.write_if = commit_and_die  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    dsn, home, step = sys.argv[1:]
    engine = Engine(dsn, Settings(home=Path(home), dsn=dsn))
    held = taken(engine, "doomed")
    die_at(step)
    with Heartbeat(engine, held) as heartbeat:
        headrace.trainer.publish.publish(engine, heartbeat, promising(engine, held, "doomed"))

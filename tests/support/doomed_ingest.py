"""`headrace ingest` that kills itself (-9) at one step of its second batch.

usage: python -m tests.support.doomed_ingest read|advanced|copied|committed
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import headrace.events.kafka.ingest
import headrace.events.tables
from headrace.engine import open_engine
from headrace.events.tables import TableWriter
from headrace.settings import Settings
from tests.support.brokers import CONSUMER

STEPS = ("read", "advanced", "copied", "committed")


def die_at(step: str) -> None:
    """Have this process end at that step of the second batch."""
    batches = 0
    store, commit = TableWriter.write, TableWriter._commit

    def die() -> None:
        if batches >= 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self: TableWriter, rows: Any) -> None:
        nonlocal batches
        batches += 1
        if step == "read":
            die()
        store(self, rows)

    def commit_and_die(self: TableWriter, rows: Any) -> Any:
        stored = commit(self, rows)
        if step == "committed":
            die()
        return stored

    def after(name: str, done: Any) -> Any:
        def run(*arguments: Any) -> None:
            done(*arguments)
            if step == name:
                die()

        return run

    TableWriter.write = write  # type: ignore[method-assign]
    TableWriter._commit = commit_and_die  # type: ignore[method-assign]
    headrace.events.tables._advance = after("advanced", headrace.events.tables._advance)
    headrace.events.tables.copy_rows = after("copied", headrace.events.tables.copy_rows)  # type: ignore[attr-defined]


if __name__ == "__main__":
    die_at(sys.argv[1])
    with open_engine(Settings.load()) as engine:
        headrace.events.kafka.ingest.ingest(engine, threading.Event(), **CONSUMER)

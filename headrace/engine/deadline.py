"""A block of queries with a time limit that the client enforces."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from headrace.engine.dialect import Connection

# How long the server may take to cancel before the connection is cut off.
GRACE_S = 5.0


@contextmanager
def at_most(connection: Connection, seconds: float | None) -> Iterator[None]:
    """Cancel what runs on a connection after so many seconds; None sets no limit.

    Where cancelling does not help, the connection is shut down and cannot be used again.

    Raises:
        psycopg.errors.QueryCanceled: the block took longer.
    """
    if seconds is None:
        yield
        return
    done, late = threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(seconds):
            return
        late.set()
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=GRACE_S)
        if not done.wait(GRACE_S):
            _cut_off(connection)

    watcher = threading.Thread(target=watch, name="headrace-deadline", daemon=True)
    watcher.start()
    try:
        yield
    except psycopg.Error:
        if not late.is_set():
            raise
    finally:
        done.set()
        watcher.join()
    if late.is_set():
        raise psycopg.errors.QueryCanceled(
            f"the queries took longer than {seconds:g} s and were cancelled"
        )


def _cut_off(connection: Connection) -> None:
    """Shut a connection down; the thread that waits on it gets an error."""
    with (
        suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as other,
    ):
        other.shutdown(socket.SHUT_RDWR)

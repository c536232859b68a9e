"""A block of queries that ends in time, whether or not the server stops them by itself."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from headrace.engine.dialect import Connection

# How long a server may take to obey before the connection is cut off.
GRACE_S = 5.0


@contextmanager
def at_most(connection: Connection, seconds: float | None) -> Iterator[None]:
    """Cancel what runs on a connection after so many seconds; None lets it run.

    Where the request to cancel does not help, the connection is cut off and of no use any more.

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
    """End a connection under the thread that waits for its answer, who sees it as lost."""
    with (
        suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as other,
    ):
        other.shutdown(socket.SHUT_RDWR)

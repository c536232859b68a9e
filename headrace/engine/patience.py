"""Patience with a RisingWave that comes back: what it refuses for some seconds is asked again.

After a node has died, queries and changes end in an error until the cluster has its state back, and
a source is refused while a partition of its topic changes its leader. What was written and not yet
flushed may be lost with the node, so that is written again first. Whatever Headrace sends there may
be sent twice: rows have keys, and what is made is made `if not exists`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from psycopg import ClientCursor

from headrace.errors import EngineError, one_line

log = logging.getLogger(__name__)

PATIENCE_S, PAUSE_S = 60.0, 0.5
# What it says meanwhile, in lower case. SQLSTATE does not tell: it is XX000, as for most errors.
PASSING = (
    "cluster is under recovering",
    "cluster is starting or recovering",
    "cluster is recovering",
    "empty workers found",
    "error reading a body from connection",
    "failed to inject barrier",
    "get error from control stream",
    "no reader for dml in table",
    "tcp connect error",
    "transport error",
    "vnode mapping not found",
    "notleaderforpartition",
    "not leader for partition",
)
_Answer = TypeVar("_Answer")


def passes(error: Exception) -> bool:
    """Whether an error is one of a cluster that needs a moment."""
    text = str(error).lower()
    return any(said in text for said in PASSING)


def patiently(ask: Callable[[], _Answer]) -> _Answer:
    """Return the answer, asking again for PATIENCE_S while the cluster needs a moment.

    Raises:
        psycopg.Error, EngineError: another error, or still the same one.
    """
    end: float | None = None
    while True:
        try:
            return ask()
        except (psycopg.Error, EngineError) as error:
            if not passes(error) or (end is not None and time.monotonic() > end):
                raise
            if end is None:
                end = time.monotonic() + PATIENCE_S
                log.warning("waiting for RisingWave: %s", one_line(error))
        time.sleep(PAUSE_S)


class PatientConnection(psycopg.Connection[Any]):
    """A connection that remembers what was written on it since the last flush."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.unflushed: list[tuple[Any, Any]] = []


class PatientCursor(ClientCursor[Any]):
    """A cursor of a PatientConnection: it binds parameters on this side, and asks patiently."""

    connection: PatientConnection

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        send = super().execute
        verb = self.mogrify(query, params).lstrip()[:6].lower()
        written = self.connection.unflushed
        refused = False

        def ask() -> Any:
            nonlocal refused
            try:
                for earlier in written if refused else ():
                    send(*earlier)
                return send(query, params, **options)
            except psycopg.Error:
                refused = True
                raise

        answer = patiently(ask)
        if verb in ("insert", "update", "delete"):
            written.append((query, params))
        elif verb == "flush":
            written.clear()
        return answer

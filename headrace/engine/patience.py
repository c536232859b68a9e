"""Patience with a RisingWave that recovers: what it refuses for some seconds is sent again.

After a node has died, queries and changes end in an error until the cluster has recovered its
state, and a source is refused while a partition of its topic changes its leader. Writes that were
not flushed may be lost with the node, so they are sent again first. Whatever Headrace sends may be
sent twice: rows have keys, and DDL says `if not exists`.
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
# Texts of its errors meanwhile, in lower case. SQLSTATE is no help: XX000, as for most errors.
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
_Result = TypeVar("_Result")


def passes(error: Exception) -> bool:
    """Whether an error is that of a cluster that recovers."""
    text = str(error).lower()
    return any(said in text for said in PASSING)


def patiently(ask: Callable[[], _Result]) -> _Result:
    """Return what `ask` returns, calling it again for PATIENCE_S while the cluster recovers.

    Raises:
        psycopg.Error, EngineError: another error, or still the same one.
    """
    # Not by tenacity: its stop_after_delay counts from the first call, so a dbt run that is refused
    # after minutes would get no second one. This counts from the first refusal.
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
    """A cursor of a PatientConnection: it binds parameters itself, and executes `patiently`."""

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

        result = patiently(ask)
        if verb in ("insert", "update", "delete"):
            written.append((query, params))
        elif verb == "flush":
            written.clear()
        return result

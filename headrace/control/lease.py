"""A role that one process has at a time: by a lease in PostgreSQL (Gray and Cheriton 1989), or by a
lock of a session or a transaction, which ends with it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from uuid import uuid4

import psycopg

from headrace.engine.dialect import Connection
from headrace.errors import EngineError

log = logging.getLogger(__name__)

# Seconds between two tries to take a role that another process has.
WANTING_S = 2.0

Writing = Callable[[], AbstractContextManager[Connection]]


class Lease:
    """Takes the role when it is free, and keeps it until the end of the block.

    By this process's clock the lease ends no later than by that of the database, from where another
    process may have it: so of two processes that look at `is_held`, at most one does its work.

    Args:
        writing: gives a connection in a transaction.
        name: of the role.
        lease_s: how long it stays taken without a word from the process that has it, in seconds.
    """

    def __init__(self, writing: Writing, name: str, lease_s: float) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._writing = writing
        self._name = name
        self._lease_s = lease_s
        self._until = 0.0  # by time.monotonic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease {name}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self.give_back()
        except (EngineError, psycopg.Error) as failed:
            log.warning("the lease %s runs out by itself: %s", self._name, failed)

    def is_held(self, for_s: float = 0.0) -> bool:
        """Whether the role is this process's now, and for so many seconds from now."""
        return time.monotonic() + for_s < self._until

    def renew(self) -> bool:
        """Take the role or keep it; false where another process has it.

        Raises:
            EngineError, psycopg.Error: the database does not answer.
        """
        began = time.monotonic()
        with self._writing() as connection:
            taken = connection.execute(
                _TAKE, {"name": self._name, "holder": self.holder, "lease_s": self._lease_s}
            )
        self._until = began + self._lease_s if taken.rowcount else 0.0
        return bool(taken.rowcount)

    def holds(self, connection: Connection) -> bool:
        """Whether the role is this process's; then so until the connection's transaction ends."""
        return connection.execute(_HOLD, [self._name, self.holder]).fetchone() is not None

    def give_back(self) -> None:
        """Let another process take it at once.

        Raises:
            EngineError, psycopg.Error: the database does not answer.
        """
        self._until = 0.0
        with self._writing() as connection:
            connection.execute(_GIVE_BACK, [self._name, self.holder])

    def _run(self) -> None:
        while True:
            try:
                self.renew()
            except (EngineError, psycopg.Error) as error:
                log.warning("the lease %s is not renewed, trying again: %s", self._name, error)
            pause = self._lease_s / 4
            if self._stop.wait(pause if self.is_held() else min(pause, WANTING_S)):
                return


def try_session_lock(connection: Connection, name: str) -> bool:
    """Take a lock that the connection keeps until it ends; false where another session has it."""
    query = "select pg_try_advisory_lock(hashtextextended(%s, 0)) as held"
    return connection.execute(query, [name]).fetchone() == (True,)


def take_transaction_lock(connection: Connection, name: str) -> None:
    """Wait for a lock that is kept until the transaction ends."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


_TAKE = """
insert into control.leases as held (name, holder, held_until)
values (%(name)s, %(holder)s, clock_timestamp() + make_interval(secs => %(lease_s)s))
on conflict (name) do update set holder = excluded.holder, held_until = excluded.held_until
where held.holder = excluded.holder or held.held_until < clock_timestamp()
"""
_HOLD = "select from control.leases where name = %s and holder = %s for share"
_GIVE_BACK = "delete from control.leases where name = %s and holder = %s"

"""RisingWave: materialized views keep themselves, and Kafka's topics come in by themselves.

There are no transactions that write, no locks and no `on conflict` of a statement: a table with a
primary key takes the last row of a key, or the first one where it was declared so. A connection
reads what the last checkpoint holds, so who wants to read a write of its own flushes first.

`now()` is the epoch of the checkpoint that a statement reads, and `proctime()` in a view the epoch
that a row came in with. Hence what `now()` is in a query, a row that came in by then is there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from string import Template
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable, Composed, Identifier

from headrace.engine.deadline import at_most
from headrace.engine.dialect import READER, Connection, Rows, inserting
from headrace.engine.patience import PatientConnection, PatientCursor
from headrace.errors import EngineError
from headrace.settings import Settings

# A session reads checkpoints, whatever the cluster's default is: `now()` is then one.
SESSION = ("set timezone = 'UTC'", "set visibility_mode to checkpoint")
HIDDEN = "***"


class RisingWave:
    """The dialect of RisingWave; docs/engines.md says on which version it was seen to work."""

    name = "risingwave"
    port = 4566
    reads_topics = True
    migrates_by_itself = False
    has_temporary_tables = False
    has_subscriptions = True
    # All of them: a view that exists stays as it is.
    dbt_run: tuple[str, ...] = ("run", "--full-refresh")

    def connect(self, dsn: str, *, autocommit: bool = True, **options: Any) -> Connection:  # noqa: ARG002
        """Connect in autocommit mode, whatever is asked; parameters are bound on this side."""
        connection: Connection = PatientConnection.connect(
            dsn,
            autocommit=True,
            cursor_factory=PatientCursor,
            # Its server takes the request for GSS encryption for a broken message.
            gssencmode="disable",
            **options,
        )
        try:
            for statement in SESSION:
                connection.execute(statement)
        except psycopg.Error:
            connection.close()
            raise
        return connection

    def flush(self, connection: Connection) -> None:
        connection.execute("flush")

    @contextmanager
    def writing(self, connection: Connection) -> Iterator[None]:
        yield
        self.flush(connection)

    @contextmanager
    def snapshot(self, connection: Connection, timeout_s: float | None = None) -> Iterator[None]:
        # Its `statement_timeout` does not stop a query that runs.
        with at_most(connection, timeout_s):
            connection.execute("start transaction read only")
            yield
            connection.execute("commit")

    def put(self, connection: Connection, table: str, key: Sequence[str], rows: Rows) -> None:  # noqa: ARG002
        connection.execute(*inserting(table, rows))

    def among(
        self, column: Composable, kind: SQL, values: Sequence[Any]
    ) -> tuple[Composed, list[Any]]:
        places = SQL(", ").join([SQL("%s::{}").format(kind)] * len(values))
        return SQL("{} in ({})").format(column, places), list(values)

    def listen(self, connection: Connection, channel: str) -> Callable[[float], bool]:  # noqa: ARG002
        """Return a function that waits: nothing tells of changes, so they are looked for."""

        def wait(seconds: float) -> bool:
            time.sleep(seconds)
            return False

        return wait

    @contextmanager
    def migrating(self, connection: Connection, settings: Settings) -> Iterator[None]:
        """Make the reader first: the SQL grants it what it may read."""
        self.keep_reader(connection, settings)
        yield

    def keep_reader(self, connection: Connection, settings: Settings) -> None:  # noqa: ARG002
        """Make the role without a login: an administrator gives it a password."""
        if not connection.execute(_READER, [READER]).fetchone():
            connection.execute(SQL("create user {} with nologin").format(Identifier(READER)))

    def apply(self, connection: Connection, file: Path, settings: Settings) -> None:
        try:
            for statement in statements(file.read_text(), settings):
                connection.execute(statement)
        except psycopg.Error as error:
            raise EngineError(f"{file.name}: {_without_secrets(str(error), settings)}") from None

    def pass_on(self, connection: Connection, triggers: Rows) -> None:
        """Insert them into the table that the change feed and the topic come from."""
        connection.execute(*inserting("control.due_triggers", triggers))

    def claim(
        self,
        connection: Connection,
        *,
        trigger_id: str,
        model: str,
        worker: str,
        run_id: str,
        lease_s: float,
    ) -> dict[str, Any] | None:
        """Insert an attempt, of which the first one stays, and look whose it is.

        A take-over also looks whether the one before has shown itself meanwhile, as that one looks
        for a later attempt in `renew`: each writes, flushes and then reads, so at least one of them
        sees the other and lets go.
        """
        held = self._held(connection, trigger_id)
        if held is None:
            attempt = 1
            connection.execute(_FIRST_ATTEMPT, [trigger_id, worker, run_id, model])
        elif _is_free(held, lease_s):
            attempt = held["attempt"] + 1
            connection.execute(_NEXT_ATTEMPT, [attempt, worker, trigger_id, held["attempt"]])
        else:
            return None
        self.flush(connection)
        with connection.cursor(row_factory=dict_row) as cursor:
            taken = cursor.execute(_ATTEMPT, [trigger_id, attempt]).fetchone()
            if taken is None or taken["worker"] != worker:
                return None
            if attempt > 1:
                before = cursor.execute(_BEAT, [trigger_id, attempt - 1]).fetchone()
                if before is not None and not _is_free(before, lease_s):
                    return None
        return taken

    def renew(self, connection: Connection, trigger_id: str, attempt: int, worker: str) -> bool:
        connection.execute(_SHOW, [trigger_id, attempt])
        self.flush(connection)
        held = self._held(connection, trigger_id)
        return held is not None and (held["attempt"], held["worker"]) == (attempt, worker)

    def finish(self, connection: Connection, trigger_id: str, attempt: int) -> None:
        connection.execute(_END, [trigger_id, attempt])
        self.flush(connection)

    def _held(self, connection: Connection, trigger_id: str) -> dict[str, Any] | None:
        with connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(_HELD, [trigger_id]).fetchone()


_READER = "select 1 from pg_roles where rolname = %s"
_FIRST_ATTEMPT = """
insert into control.attempts
    (trigger_id, attempt, model, worker, run_id, claimed_at, known_at, event_clock)
select %s, 1, model, %s, %s, now(), now(), event_clock
from headrace.model_clock
where model = %s
"""
_NEXT_ATTEMPT = """
insert into control.attempts
    (trigger_id, attempt, model, worker, run_id, claimed_at, known_at, event_clock)
select trigger_id, %s, model, %s, run_id, now(), known_at, event_clock
from control.attempts
where trigger_id = %s and attempt = %s
"""
_ATTEMPT = """
select trigger_id, model, worker, run_id, attempt, claimed_at, known_at, event_clock
from control.attempts
where trigger_id = %s and attempt = %s
"""
_HELD = """
select attempt, worker, heartbeat_at, finished_at, now() as moment
from control.claims
where trigger_id = %s
"""
_BEAT = """
select heartbeat_at, finished_at, now() as moment
from control.heartbeats
where trigger_id = %s and attempt = %s
"""
_SHOW = """
insert into control.heartbeats (trigger_id, attempt, heartbeat_at) values (%s, %s, now())
"""
_END = """
insert into control.heartbeats (trigger_id, attempt, heartbeat_at, finished_at)
values (%s, %s, now(), now())
"""


def _is_free(held: dict[str, Any], lease_s: float) -> bool:
    silent: timedelta = held["moment"] - held["heartbeat_at"]
    return held["finished_at"] is None and silent > timedelta(seconds=lease_s)


def statements(text: str, settings: Settings) -> list[str]:
    """Return the statements of a file of `sql/risingwave`, filled in; they hold the password.

    A statement ends with a semicolon at the end of a line. ``${kafka}`` is how RisingWave reaches
    the brokers, ``${prefix}`` what the names of topics begin with.
    """
    filled = Template(text).substitute(
        kafka=kafka_properties(settings),
        prefix=settings.kafka_prefix.replace("'", "''"),
    )
    code = re.sub(r"^\s*--.*\n?", "", filled, flags=re.MULTILINE)
    found = (each.strip() for each in re.split(r";[ \t]*$", code, flags=re.MULTILINE))
    return [each for each in found if each]


def kafka_properties(settings: Settings) -> str:
    """Return the properties of a connector, as text of a WITH clause (holds the password)."""
    known = {
        "connector": "kafka",
        "properties.bootstrap.server": settings.kafka,
        "properties.security.protocol": settings.kafka_security,
    }
    if settings.kafka_security.startswith("SASL"):
        known["properties.sasl.mechanism"] = settings.kafka_mechanism
        known["properties.sasl.username"] = settings.kafka_user
        known["properties.sasl.password"] = settings.kafka_password
    if settings.kafka_ca:
        known["properties.ssl.ca.location"] = settings.kafka_ca
    quoted = ((name, value.replace("'", "''")) for name, value in known.items())
    return ",\n    ".join(f"{name} = '{value}'" for name, value in quoted)


def _without_secrets(text: str, settings: Settings) -> str:
    """Return the text on one line, without the password that a statement of ours may quote."""
    for secret in (settings.kafka_password, settings.kafka_password.replace("'", "''")):
        if secret:
            text = text.replace(secret, HIDDEN)
    return " ".join(text.split())

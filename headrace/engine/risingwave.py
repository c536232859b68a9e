"""RisingWave: it maintains the views and reads Kafka's topics by itself.

There are no writing transactions, no locks and no `on conflict` in a statement: a table with a
primary key keeps the last row of a key, or the first one where it is declared so. A connection
reads the last checkpoint, so it must flush to read its own writes.

`now()` in a query is the epoch of the checkpoint that it reads, `proctime()` in a view the epoch in
which a row came in. So a query sees every row that came in by its `now()`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from string import Template
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier

from headrace.engine.deadline import at_most
from headrace.engine.dialect import READER, Connection, Rows, inserting
from headrace.engine.patience import PatientConnection, PatientCursor
from headrace.errors import EngineError
from headrace.settings import Settings

# A session reads checkpoints, whatever the cluster's default is, so `now()` is one.
SESSION = ("set timezone = 'UTC'", "set visibility_mode to checkpoint")
HIDDEN = "***"


class RisingWave:
    """The dialect of RisingWave; docs/engines.md says on which version it was seen to work."""

    name = "risingwave"
    port = 4566
    reads_topics = True
    migrates_by_itself = False
    has_temporary_tables = False
    has_segment_labels = False
    has_vectors = False
    has_subscriptions = True
    # All views: without it, one that exists is left as it is.
    dbt_run: tuple[str, ...] = ("run", "--full-refresh")

    def connect(self, dsn: str, *, autocommit: bool = True, **options: Any) -> Connection:  # noqa: ARG002
        """Connect, always in autocommit mode; parameters are bound on the client."""
        connection: Connection = PatientConnection.connect(
            dsn,
            autocommit=True,
            cursor_factory=PatientCursor,
            # Its server takes a request for GSS encryption for a broken message.
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

    def keep_plans(self, connection: Connection) -> None:
        """Do nothing: there is no such setting."""

    def together(self, connection: Connection) -> AbstractContextManager[Any]:  # noqa: ARG002
        """Send each query by itself: RisingWave knows no pipeline."""
        return nullcontext()

    def put(self, connection: Connection, table: str, key: Sequence[str], rows: Rows) -> None:  # noqa: ARG002
        connection.execute(*inserting(table, rows))

    def among(
        self, column: Composable, kind: SQL, values: Sequence[Any]
    ) -> tuple[Composed, list[Any]]:
        places = SQL(", ").join([SQL("%s::{}").format(kind)] * len(values))
        return SQL("{} in ({})").format(column, places), list(values)

    def listen(self, connection: Connection, channel: str) -> Callable[[float], bool]:  # noqa: ARG002
        """Return a function that only waits: RisingWave sends no notifications, so callers poll."""

        def wait(seconds: float) -> bool:
            time.sleep(seconds)
            return False

        return wait

    @contextmanager
    def migrating(self, connection: Connection, settings: Settings) -> Iterator[None]:
        """Make the reader first: the SQL grants it what it may read."""
        self.keep_reader(connection, settings)
        yield

    def left_behind(self, connection: Connection, *, retry: bool) -> list[tuple[str, str]]:  # noqa: ARG002
        """Return nothing: a deployment does not replace what a view of a user reads, but fails."""
        return []

    def keep_reader(self, connection: Connection, settings: Settings) -> None:  # noqa: ARG002
        """Make the role without a login: an administrator gives it a password."""
        known = "select 1 from pg_roles where rolname = %s"
        if not connection.execute(known, [READER]).fetchone():
            connection.execute(SQL("create user {} with nologin").format(Identifier(READER)))

    def apply(self, connection: Connection, file: Path, settings: Settings) -> None:
        try:
            for statement in statements(file.read_text(), settings):
                connection.execute(statement)
        except psycopg.Error as error:
            raise EngineError(f"{file.name}: {_without_secrets(str(error), settings)}") from None


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
    """Return the text on one line, without the password that a quoted statement may hold."""
    for secret in (settings.kafka_password, settings.kafka_password.replace("'", "''")):
        if secret:
            text = text.replace(secret, HIDDEN)
    return " ".join(text.split())

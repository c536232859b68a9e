"""PostgreSQL: triggers keep the views, transactions and locks keep the order."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier

from headrace.engine.dialect import READER, Connection, Rows, inserting
from headrace.engine.embedded import embedded_postgres
from headrace.errors import EngineError
from headrace.settings import Settings

log = logging.getLogger(__name__)

# A session of the reader that lasts longer is ended, whatever its own settings are.
LONGEST_READ = timedelta(minutes=2)
SCRAM_ROUNDS = 4096
# When two sessions make the same thing at once, one of them gets one of these.
_MADE_TWICE = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.DuplicateSchema,
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateObject,  # the type of a table's rows
)


class Postgres:
    """The dialect of PostgreSQL, embedded or external."""

    name = "postgres"
    port = 5432
    reads_topics = False
    migrates_by_itself = True
    has_temporary_tables = True
    has_segment_labels = True
    has_vectors = True
    has_subscriptions = False
    dbt_run: tuple[str, ...] = ("run",)

    def connect(self, dsn: str, *, autocommit: bool = True, **options: Any) -> Connection:
        return psycopg.connect(dsn, autocommit=autocommit, options="-c timezone=UTC", **options)

    def flush(self, connection: Connection) -> None:
        """Do nothing: what is committed can be read."""

    def writing(self, connection: Connection) -> AbstractContextManager[Any]:
        return connection.transaction()

    @contextmanager
    def snapshot(self, connection: Connection, timeout_s: float | None = None) -> Iterator[None]:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            if timeout_s is not None:
                connection.execute(
                    "select set_config('statement_timeout', %s, true)", [f"{timeout_s:.0f}s"]
                )
            yield

    def keep_plans(self, connection: Connection) -> None:
        connection.prepare_threshold = 0
        connection.execute("set plan_cache_mode = force_generic_plan")

    def together(self, connection: Connection) -> AbstractContextManager[Any]:
        return connection.pipeline()

    def put(self, connection: Connection, table: str, key: Sequence[str], rows: Rows) -> None:
        statement, values = inserting(table, rows)
        others = [column for column in rows[0] if column not in key]
        changes = [SQL("{0} = excluded.{0}").format(Identifier(column)) for column in others]
        statement += SQL(" on conflict ({}) do update set {}").format(
            SQL(", ").join(map(Identifier, key)), SQL(", ").join(changes)
        )
        connection.execute(statement, values)

    def among(
        self, column: Composable, kind: SQL, values: Sequence[Any]
    ) -> tuple[Composed, list[Any]]:
        return SQL("{} = any(%s::{}[])").format(column, kind), [list(values)]

    def listen(self, connection: Connection, channel: str) -> Callable[[float], bool]:
        connection.execute(SQL("listen {}").format(Identifier(channel)))
        return lambda seconds: bool(list(connection.notifies(timeout=seconds, stop_after=1)))

    @contextmanager
    def migrating(self, connection: Connection, settings: Settings) -> Iterator[None]:  # noqa: ARG002
        with alone(connection, "locks.migration"):
            yield

    def left_behind(self, connection: Connection, *, retry: bool) -> list[tuple[str, str]]:
        if retry:
            connection.execute("select control.drop_stale()")
        rows = connection.execute(
            "select view_name, relation_name, problem from control.views_left_behind() "
            "order by view_name, relation_name"
        )
        return [
            (f"{view} reads the {relation} of an earlier version", " ".join(problem.split()))
            for view, relation, problem in rows
        ]

    def keep_reader(self, connection: Connection, settings: Settings) -> None:
        verifier = None
        if not settings.dsn:
            verifier = scram_verifier(embedded_postgres(settings).password(READER))
        try:
            connection.execute("select control.end_reads(%s)", [LONGEST_READ])
            connection.execute("select control.keep_reader(%s)", [verifier])
        except psycopg.errors.LockNotAvailable:
            log.warning("the rights of %s are being changed; trying again later", READER)

    def apply(self, connection: Connection, file: Path, settings: Settings) -> None:  # noqa: ARG002
        try:
            with connection.transaction():
                connection.execute(file.read_text())
        except psycopg.Error as error:
            raise EngineError(f"{file.name}: {error}") from None


@contextmanager
def alone(connection: Connection, lock: str) -> Iterator[None]:
    """Run the block under a lock, which is a table that is made when it is missing.

    The connection is in autocommit mode, and does nothing else meanwhile.
    """
    schema, name = lock.split(".")
    for statement in (
        SQL("create schema if not exists {}").format(Identifier(schema)),
        SQL("create table if not exists {} () with (autovacuum_enabled = false)").format(
            Identifier(schema, name)
        ),
    ):
        try:
            connection.execute(statement)
        except _MADE_TWICE:
            continue
    with connection.transaction():
        connection.execute(SQL("lock table {} in exclusive mode").format(Identifier(schema, name)))
        yield


def scram_verifier(password: str) -> str:
    """Return the SCRAM verifier that PostgreSQL stores for a random password; always the same one.

    Its salt is derived from the password, which nobody can guess.
    """
    salt = hashlib.sha256(b"salt" + password.encode()).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ROUNDS)
    client, server = (
        hmac.digest(salted, role, "sha256") for role in (b"Client Key", b"Server Key")
    )
    stored = hashlib.sha256(client).digest()
    encoded = (base64.b64encode(each).decode() for each in (salt, stored, server))
    return "SCRAM-SHA-256${}:{}${}:{}".format(SCRAM_ROUNDS, *encoded)

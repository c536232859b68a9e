"""What differs from engine to engine, behind one interface.

`postgres` and `risingwave` beside this module implement it; `reach` picks one by the setting
`engine`. A dialect has no state: each method is given the connection that it works on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier, Placeholder

from headrace.settings import Settings

# The role that sees the marts and nothing else.
READER = "headrace_reader"

Connection = psycopg.Connection[Any]
Rows = Sequence[Mapping[str, Any]]


class Dialect(Protocol):
    """One engine. Methods raise psycopg.Error, and EngineError where they say so.

    Attributes:
        name: as the setting `engine` has it; also dbt's target and the folder of `sql/`.
        port: where it listens unless a connection string says otherwise.
        reads_topics: it reads Kafka's topics into its tables itself.
        migrates_by_itself: any process may migrate it, one at a time; if not, only
            `headrace migrate` does.
        has_temporary_tables: it has them, and takes rows by COPY.
        has_segment_labels: it keeps control.segment_labels for training sets.
        has_vectors: it keeps vectors of inputs.
        has_subscriptions: it tells of the changes of tables and materialized views.
        dbt_run: the arguments of dbt that make the views, or the changed ones again.
    """

    name: str
    port: int
    reads_topics: bool
    migrates_by_itself: bool
    has_temporary_tables: bool
    has_segment_labels: bool
    has_vectors: bool
    has_subscriptions: bool
    dbt_run: tuple[str, ...]

    def connect(self, dsn: str, *, autocommit: bool = True, **options: Any) -> Connection:
        """Return a connection whose session speaks UTC; `options` are psycopg's."""

    def flush(self, connection: Connection) -> None:
        """Return once this connection can read everything written before, by anybody.

        So can other connections; on another frontend of RisingWave a moment later.
        """

    def writing(self, connection: Connection) -> AbstractContextManager[None]:
        """A block of changes, which can be read once it has ended (as after `flush`)."""

    def snapshot(
        self, connection: Connection, timeout_s: float | None = None
    ) -> AbstractContextManager[None]:
        """A block of queries that see all views as of one moment.

        The limit is for each query on PostgreSQL and for the whole block on RisingWave; beyond it
        psycopg.errors.QueryCanceled is raised.
        """

    def keep_plans(self, connection: Connection) -> None:
        """Have each query of this connection planned once, whatever its parameters."""

    def together(self, connection: Connection) -> AbstractContextManager[Any]:
        """A block of queries that are sent together where the engine can; fetch rows after it."""

    def put(self, connection: Connection, table: str, key: Sequence[str], rows: Rows) -> None:
        """Insert rows, all of the same columns; a row replaces the one that has its key."""

    def among(
        self, column: Composable, kind: SQL, values: Sequence[Any]
    ) -> tuple[Composed, list[Any]]:
        """Return SQL for "this column, of this type, is one of the values", and its parameters."""

    def listen(self, connection: Connection, channel: str) -> Callable[[float], bool]:
        """Return a function that waits so many seconds, or until notified of a change (true)."""

    # Deployment.

    def migrating(self, connection: Connection, settings: Settings) -> AbstractContextManager[None]:
        """A block that migrates: what it needs is there first, and no other one runs meanwhile.

        The connection serves this alone while the block runs.
        """

    def left_behind(self, connection: Connection, *, retry: bool) -> list[tuple[str, str]]:
        """Return (what, why) of the views of users that read what a deployment replaced.

        With `retry`, whatever fits by now is pointed to what this version has first.
        """

    def keep_reader(self, connection: Connection, settings: Settings) -> None:
        """Make the role READER, or restore its attributes and rights."""

    def apply(self, connection: Connection, file: Path, settings: Settings) -> None:
        """Run one file of SQL; EngineError names the file and quotes no secret."""


def inserting(table: str, rows: Rows) -> tuple[Composed, list[Any]]:
    """Return one INSERT of all rows, and its parameters."""
    columns = list(rows[0])
    line = SQL("({})").format(SQL(", ").join([Placeholder()] * len(columns)))
    statement = SQL("insert into {} ({}) values {}").format(
        Identifier(*table.split(".")),
        SQL(", ").join(map(Identifier, columns)),
        SQL(", ").join([line] * len(rows)),
    )
    return statement, [row[column] for row in rows for column in columns]

"""What differs from engine to engine, behind one interface.

`postgres` and `risingwave` beside this module hold the two; `reach` picks one by the setting
`engine`, and is what the rest of Headrace uses. A dialect keeps no state: each method is
given the connection that it works on.
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
        reads_topics: it brings Kafka's topics into its tables by itself.
        migrates_by_itself: any process may bring it up to date, one after the other; if not,
            `headrace migrate` alone does.
        has_temporary_tables: it has them, and takes rows by COPY.
        has_subscriptions: it tells of the changes of tables and materialized views.
        dbt_run: the command of dbt that makes the views, or makes the changed ones again.
    """

    name: str
    port: int
    reads_topics: bool
    migrates_by_itself: bool
    has_temporary_tables: bool
    has_subscriptions: bool
    dbt_run: tuple[str, ...]

    def connect(self, dsn: str, *, autocommit: bool = True, **options: Any) -> Connection:
        """Return a connection whose session speaks UTC; `options` are psycopg's."""

    def flush(self, connection: Connection) -> None:
        """Return once this connection can read what anybody has written before.

        Others can, too; where RisingWave has several frontends, as soon as theirs has heard of it.
        """

    def writing(self, connection: Connection) -> AbstractContextManager[None]:
        """A block of changes, which can be read once it has ended (as after `flush`)."""

    def snapshot(
        self, connection: Connection, timeout_s: float | None = None
    ) -> AbstractContextManager[None]:
        """A block of queries that see all views as of one moment.

        On PostgreSQL each of them takes at most so long, on RisingWave the whole block; else
        psycopg.errors.QueryCanceled is raised.
        """

    def put(self, connection: Connection, table: str, key: Sequence[str], rows: Rows) -> None:
        """Insert rows, all of the same columns; one whose key is there takes that one's place."""

    def among(
        self, column: Composable, kind: SQL, values: Sequence[Any]
    ) -> tuple[Composed, list[Any]]:
        """Return the condition that a column of a type is one of the values, and its parameters."""

    def listen(self, connection: Connection, channel: str) -> Callable[[float], bool]:
        """Return a function that waits so many seconds, or until it is told of a change (true)."""

    # Deployment.

    def migrating(self, connection: Connection, settings: Settings) -> AbstractContextManager[None]:
        """What is around a migration: what has to be there first, and nobody else beside it.

        The connection is for that alone while the block runs.
        """

    def keep_reader(self, connection: Connection, settings: Settings) -> None:
        """Have the role READER there, and bring back what it is and is not allowed."""

    def apply(self, connection: Connection, file: Path, settings: Settings) -> None:
        """Run one file of SQL; EngineError tells which one failed, and no secret."""

    # Triggers and their claims by trainers: see headrace/control/claims.py.

    def pass_on(self, connection: Connection, triggers: Rows) -> None:
        """Tell other systems of due triggers, each of them once, where there is a feed."""

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
        """Take a trigger, or take it over after its lease; None where another worker has it.

        The row has trigger_id, model, worker, run_id, attempt, claimed_at, known_at, event_clock.
        """

    def renew(self, connection: Connection, trigger_id: str, attempt: int, worker: str) -> bool:
        """Renew the lease; false where the claim is another worker's by now, or at its end."""

    def finish(self, connection: Connection, trigger_id: str, attempt: int) -> None:
        """Mark a claim as done, for good."""


def inserting(table: str, rows: Rows) -> tuple[Composed, list[Any]]:
    """Return the INSERT of all rows by one statement, and its parameters."""
    columns = list(rows[0])
    line = SQL("({})").format(SQL(", ").join([Placeholder()] * len(columns)))
    statement = SQL("insert into {} ({}) values {}").format(
        Identifier(*table.split(".")),
        SQL(", ").join(map(Identifier, columns)),
        SQL(", ").join([line] * len(rows)),
    )
    return statement, [row[column] for row in rows for column in columns]

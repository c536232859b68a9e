"""The engine: a PostgreSQL or a RisingWave, with our tables, views and roles in it.

What differs between the two is in `Engine.dialect`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from headrace.engine.dialect import READER, Connection, Dialect
from headrace.engine.embedded import embedded_postgres
from headrace.engine.postgres import Postgres
from headrace.engine.risingwave import RisingWave
from headrace.errors import EngineError, one_line
from headrace.settings import Settings

log = logging.getLogger(__name__)

DIALECTS: dict[str, Dialect] = {each.name: each for each in (Postgres(), RisingWave())}
# Takes progress for a person, a line at a time; the text before a colon is the step.
Say = Callable[[str], None]


class Engine:
    """A way to reach the database. Make one with `open_engine`."""

    def __init__(self, dsn: str, settings: Settings) -> None:
        self.dsn = dsn
        self.settings = settings
        self.dialect = DIALECTS[settings.engine]

    @property
    def registry_dsn(self) -> str:
        """Connection string of the PostgreSQL that has Feast's registry."""
        return self.settings.registry_dsn or self.dsn

    def connect(self, *, autocommit: bool = True, **options: Any) -> Connection:
        """Return a new connection whose session speaks UTC."""
        options.setdefault("application_name", "headrace")
        try:
            return self.dialect.connect(self.dsn, autocommit=autocommit, **options)
        except psycopg.Error as error:
            raise EngineError(f"cannot reach the database: {one_line(error)}") from None

    @contextmanager
    def writing(self, **options: Any) -> Iterator[Connection]:
        """A connection for changes that can be read once the block has ended.

        On PostgreSQL they are one transaction, on RisingWave each statement is its own.
        """
        with self.connect(**options) as connection, self.dialect.writing(connection):
            yield connection

    def flush(self) -> None:
        """Return once what was written before can be read."""
        with self.connect() as connection:
            self.dialect.flush(connection)

    def rows(
        self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run one query on a connection of its own and return its rows as dicts."""
        with self.connect(row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def has(self, relation: str) -> bool:
        """Whether there is a table or view of this name, given as schema.name."""
        with self.connect() as connection:
            return has(connection, relation)

    @property
    def knows_reader(self) -> bool:
        """Whether the password of the role READER is known."""
        return bool(self.settings.reader_dsn or not self.settings.dsn)

    def reader_dsn(self) -> str:
        """Return the connection string of READER; the engine's own where it is not known."""
        if self.settings.dsn:
            return self.settings.reader_dsn or self.dsn
        embedded = embedded_postgres(self.settings)
        return make_conninfo(self.dsn, user=READER, password=embedded.password(READER))


def has(connection: Connection, relation: str) -> bool:
    """Whether there is a table or view of this name, given as schema.name."""
    found = connection.execute(
        "select count(*) from information_schema.tables "
        "where table_schema = %s and table_name = %s",
        relation.split("."),
    ).fetchone()
    return bool(found and found[0])


@contextmanager
def open_engine(settings: Settings, *, say: Say | None = None) -> Iterator[Engine]:
    """Reach the database inside a `with` block: the embedded one, or that of HEADRACE_DSN.

    `say` is called before steps that take time.

    Raises:
        EngineError: it cannot be started or reached.
    """
    if settings.dsn:
        engine = Engine(settings.dsn, settings)
        engine.connect().close()
        yield engine
        return
    server = embedded_postgres(settings)
    if say and server.pid() is None:
        made = (server.data / "PG_VERSION").exists()
        say(f"PostgreSQL: {'starting' if made else 'making the database'} in {server.folder}")
    with server.running():
        yield Engine(server.dsn, settings)

"""A PostgreSQL database with what sql/risingwave creates (risingwave_sql_on_postgres.py).

The other stand-in, standin.py, runs the dialect of RisingWave on the tables of sql/postgres.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from headrace.engine.embedded import EmbeddedPostgres
from tests.support import risingwave_sql_on_postgres as on_postgres

_numbers = itertools.count(1)


class SqlStandIn:
    """A connection to such a database, and its sinks."""

    def __init__(self, connection: psycopg.Connection[Any], dsn: str) -> None:
        self.connection = connection
        self.dsn = dsn
        self.sinks = on_postgres.create(connection)

    def receive(self, messages: list[on_postgres.Message]) -> None:
        """Have messages arrive, as if Kafka had sent them."""
        on_postgres.put(self.connection, messages)
        on_postgres.flow(self.connection, self.sinks)


@pytest.fixture(scope="module")
def sql_standin(server: EmbeddedPostgres) -> Iterator[SqlStandIn]:
    name = f"standin_{next(_numbers)}"
    with psycopg.connect(server.dsn, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"create database {name}")
        dsn = make_conninfo(server.dsn, dbname=name)
        try:
            with psycopg.connect(dsn, autocommit=True, options="-c timezone=UTC") as connection:
                yield SqlStandIn(connection, dsn)
        finally:
            admin.execute(f"drop database {name} with (force)")

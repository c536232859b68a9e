"""Databases that stand in for RisingWave."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from headrace.engine.embedded import EmbeddedPostgres
from tests.support import risingwave_sql_standin as standin

_numbers = itertools.count(1)


class StandIn:
    """A connection to a database made by sql/risingwave, and its sinks."""

    def __init__(self, connection: psycopg.Connection[Any], dsn: str) -> None:
        self.connection = connection
        self.dsn = dsn
        self.sinks = standin.create(connection)

    def receive(self, messages: list[standin.Message]) -> None:
        """Let messages come in."""
        standin.put(self.connection, messages)
        standin.flow(self.connection, self.sinks)


@pytest.fixture(scope="module")
def stand_in(server: EmbeddedPostgres) -> Iterator[StandIn]:
    name = f"standin_{next(_numbers)}"
    with psycopg.connect(server.dsn, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"create database {name}")
        dsn = make_conninfo(server.dsn, dbname=name)
        try:
            with psycopg.connect(dsn, autocommit=True, options="-c timezone=UTC") as connection:
                yield StandIn(connection, dsn)
        finally:
            admin.execute(f"drop database {name} with (force)")

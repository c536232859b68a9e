"""A database for the formulas of macros."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import dict_row

from headrace.engine.embedded import EmbeddedPostgres
from tests.support.formulas import Connection


@pytest.fixture(scope="module")
def database(server: EmbeddedPostgres) -> Iterator[Connection]:
    """A connection to PostgreSQL: formulas need no tables."""
    with psycopg.connect(server.dsn, dbname="postgres", row_factory=dict_row) as connection:
        yield connection

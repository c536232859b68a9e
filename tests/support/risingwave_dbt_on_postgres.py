"""dbt with its RisingWave adapter, connected to a PostgreSQL.

Run as ``python -m tests.support.risingwave_dbt_on_postgres ARGUMENTS``. Two parts of the adapter
are replaced: the settings of a session, and its list of relations, a query that is ambiguous on
PostgreSQL. Every statement is committed at once, as RisingWave has no transactions that write, and
``create view if not exists`` leaves an existing view as it is.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import psycopg2.extensions
from dbt.adapters.risingwave.connections import RisingWaveConnectionManager
from dbt.cli.main import dbtRunner

from tests.support.risingwave_sql_on_postgres import apart

MAKES_VIEW = re.compile(r"create view if not exists (\S+) as")


class Cursor(psycopg2.extensions.cursor):  # type: ignore[misc]
    """A cursor that knows `create view if not exists`."""

    def execute(self, query: str, parameters: Any = None) -> None:
        if made := MAKES_VIEW.search(query):
            super().execute("select to_regclass(%s) is not null", [made[1]])
            exists = (self.fetchone() or [False])[0]
            query = "select 1" if exists else query.replace(" if not exists", "", 1)
        super().execute(apart(query), parameters)


def without_transactions(handle: Any, _: object) -> None:
    """Configure a session without transactions."""
    handle.autocommit = True
    handle.cursor_factory = Cursor


if __name__ == "__main__":
    RisingWaveConnectionManager._configure_session = staticmethod(without_transactions)  # type: ignore[method-assign, assignment]
    done = dbtRunner().invoke(["--no-populate-cache", *sys.argv[1:]])
    sys.exit(0 if done.success else 1)

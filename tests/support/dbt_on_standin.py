"""dbt's command line for RisingWave, talking to a PostgreSQL that stands in for it.

Run as ``python -m tests.support.dbt_on_standin ARGUMENTS``. Two things are taken from the adapter:
the settings of a session, and its list of all that exists, a query that PostgreSQL calls ambiguous.
A statement counts at once, as on RisingWave, where no transaction writes; and a view that exists
may be made again, which changes nothing.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import psycopg2.extensions
from dbt.adapters.risingwave.connections import RisingWaveConnectionManager
from dbt.cli.main import dbtRunner

MAKES_VIEW = re.compile(r"create view if not exists (\S+) as")


class Cursor(psycopg2.extensions.cursor):  # type: ignore[misc]
    """A cursor that knows `create view if not exists`."""

    def execute(self, query: str, parameters: Any = None) -> None:
        if made := MAKES_VIEW.search(query):
            super().execute("select to_regclass(%s) is not null", [made[1]])
            exists = (self.fetchone() or [False])[0]
            query = "select 1" if exists else query.replace(" if not exists", "", 1)
        super().execute(query, parameters)


def without_transactions(handle: Any, _: object) -> None:
    """Configure a session of PostgreSQL."""
    handle.autocommit = True
    handle.cursor_factory = Cursor


if __name__ == "__main__":
    RisingWaveConnectionManager._configure_session = staticmethod(without_transactions)  # type: ignore[method-assign, assignment]
    done = dbtRunner().invoke(["--no-populate-cache", *sys.argv[1:]])
    sys.exit(0 if done.success else 1)

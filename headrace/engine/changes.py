"""What analysts ask of an engine from Python: the changes of a relation, and a query as a frame.

RisingWave tells of the changes of a table or a materialized view by a subscription, which
risingwave-py reads. Plain views have none there, and PostgreSQL has none at all: these are read
again and again, and compared with what they were.

Subscriptions were tested on a stand-in for psycopg2 alone: this code has never run on a RisingWave.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from headrace.engine.reach import Engine
from headrace.errors import EngineError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Change:
    """A row that came or went; a row that got other values is one that went and one that came."""

    kind: Literal["insert", "delete"]
    row: dict[str, Any]


def watch(
    engine: Engine, relation: str, handle: Callable[[Change], None], *, every_s: float = 1.0
) -> None:
    """Call `handle` for each change of a table or view from now on; ends when `handle` raises.

    A subscription delivers each change at least once. A relation that is polled shows what differs
    between two readings, deletions first: a row that came and went in between is not seen.

    Args:
        relation: with its schema, as in ``headrace.retrain_trigger``.
        every_s: seconds between two readings where there is no subscription.

    Raises:
        EngineError: there is no such relation, or the database cannot be reached.
    """
    schema, _, name = relation.partition(".")
    kinds = engine.rows(
        "select table_type from information_schema.tables "
        "where table_schema = %s and table_name = %s",
        [schema, name],
    )
    if not kinds:
        raise EngineError(f"{relation}: no such table or view")
    if engine.dialect.has_subscriptions and kinds[0]["table_type"] != "VIEW":
        _subscribe(engine, schema, name, handle)
    else:
        _poll(engine, Identifier(schema, name), handle, every_s)


def frame(engine: Engine, query: str, parameters: dict[str, Any] | None = None) -> pd.DataFrame:
    """Return the rows of a query as a DataFrame.

    By Headrace's own connection on both engines: risingwave-py's `fetch` reads ``:name`` inside a
    query as a parameter, and its client creates a table in the database that it connects to.

    Raises:
        EngineError: the database cannot be reached.
        psycopg.Error: the query fails.
    """
    import pandas as pd

    with engine.connect() as connection:
        cursor = connection.execute(query, parameters)
        columns = [column.name for column in cursor.description or ()]
        return pd.DataFrame(cursor.fetchall(), columns=columns)


def _poll(
    engine: Engine, relation: Identifier, handle: Callable[[Change], None], every_s: float
) -> None:
    query = SQL("select * from {}").format(relation)
    with engine.connect() as connection:

        def read() -> Counter[str]:
            cursor = connection.execute(query)
            names = [column.name for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
            known.update((repr(row), row) for row in rows)
            return Counter(map(repr, rows))

        known: dict[str, dict[str, Any]] = {}
        before = read()
        while True:
            time.sleep(every_s)
            after = read()
            for key in (before - after).elements():
                handle(Change("delete", known[key]))
            for key in (after - before).elements():
                handle(Change("insert", known[key]))
            known = {key: known[key] for key in after}
            before = after


def _subscribe(engine: Engine, schema: str, name: str, handle: Callable[[Change], None]) -> None:
    import psycopg2
    from risingwave.core import RisingWaveConnection, extract_rw_version
    from sqlalchemy import create_engine

    def connect() -> Any:
        # As Headrace's own: see RisingWave.connect. Whole statements, so nothing must be committed.
        connection = psycopg2.connect(make_conninfo(engine.dsn, gssencmode="disable"))
        connection.autocommit = True
        return connection

    def pass_on(rows: list[Any]) -> None:
        for row in rows:
            values = dict(row._mapping)
            del values["rw_timestamp"]
            # Insert, UpdateInsert, Delete, UpdateDelete
            is_insert = values.pop("op").endswith("Insert")
            handle(Change("insert" if is_insert else "delete", values))

    version = extract_rw_version(engine.rows("select version() as it")[0]["it"])
    opened = create_engine("risingwave://", creator=connect).connect()
    # Not its class RisingWave, which creates a table of its own wherever it connects.
    with RisingWaveConnection(opened, version) as feed:
        feed.on_change(
            subscribe_from=name,
            schema_name=schema,
            sub_name=f"{name}_changes",
            handler=pass_on,
            error_if_not_exist=True,
        )

"""Point-in-time joins: each entity row gets the newest features at its own time.

There are two, for engines with and without temporary tables. Both take entities as tuples of
(*join keys, time) and return one row of features for each, in order, all None where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Literal

from headrace.engine.dialect import Connection
from headrace.features.view_sql import ViewSql, sql_type

Entities = Sequence[tuple[Any, ...]]
# Entities in one statement of `embedded`.
EMBEDDED = 5_000


def copied(
    connection: Connection, view: ViewSql, names: Sequence[str], entities: Entities
) -> list[tuple[Any, ...]]:
    """Join through temporary tables and a lateral join.

    The history of the entities is read once, into an indexed table: the view is computed once
    instead of once per row, and the join is one look-up per row. Their keys stand in the query one
    by one, too, as the planner pushes such conditions below aggregates and windows.
    """
    parts = _parts(view, names)
    connection.execute(
        _filled("create temporary table entities (n bigint, {key_types}, at timestamptz)", parts)
    )
    with connection.cursor().copy(
        _filled("copy entities (n, {keys}, at) from stdin", parts)
    ) as copy:
        for number, entity in enumerate(entities):
            copy.write_row((number, *entity))
    values = [[*set(column)] for column in zip(*entities, strict=True)][: len(view.keys)]
    among = [
        SQL("{} = any({}::{}[])").format(view.key(name), Literal(column), sql_type(field))
        for (name, field), column in zip(view.keys.items(), values, strict=False)
    ]
    history = _filled(
        "{history} as source "
        "where {among} and ({source_keys}) in (select {keys} from entities) "
        "and {timestamp} <= (select max(at) from entities)",
        {**parts, "among": SQL(" and ").join(among) if among else SQL("false")},
    )
    connection.execute(
        SQL("create temporary table history as {}").format(view.chosen(history, of_each_time=True))
    )
    connection.execute(_filled("create index on history ({keys}, t0)", parts))
    connection.execute("analyze history")
    rows: list[tuple[Any, ...]] = connection.execute(
        _filled(
            """
            select {features}
            from entities as e
            left join lateral (
                select *
                from history as h
                where {same} and h.t0 <= e.at {alive}
                order by h.t0 desc
                limit 1
            ) as as_of on true
            order by e.n
            """,
            parts,
        )
    ).fetchall()
    connection.execute("drop table entities, history")
    return rows


def embedded(
    connection: Connection, view: ViewSql, names: Sequence[str], entities: Entities
) -> list[tuple[Any, ...]]:
    """Join by queries that contain the entities, some thousands at a time.

    The rows of a key's history are numbered by age; an entity counts those up to its own time, and
    that count is the number of its row. So a query costs a sort of the histories, and no entity is
    joined to its whole history.
    """
    parts = _parts(view, names)
    types = [*map(sql_type, view.keys.values()), SQL("timestamptz")]
    line = SQL("({})").format(
        SQL(", ").join([SQL("%s::bigint"), *(SQL("%s::{}").format(kind) for kind in types)])
    )
    history = _filled(
        "{history} as source inner join asked on {asked_keys} where {timestamp} <= %s", parts
    )
    chosen = view.chosen(history, of_each_time=True)
    rows: list[tuple[Any, ...]] = [(None,) * len(names)] * len(entities)
    for start in range(0, len(entities), EMBEDDED):
        chunk = entities[start : start + EMBEDDED]
        query = _filled(
            _EMBEDDED, {**parts, "chosen": chosen, "given": SQL(", ").join([line] * len(chunk))}
        )
        values = [
            value for number, entity in enumerate(chunk, start) for value in (number, *entity)
        ]
        latest = max(entity[-1] for entity in chunk)
        for number, *features in connection.execute(query, [*values, latest]):
            rows[number] = tuple(features)
    return rows


_EMBEDDED = """
with entities as (
    select n, {keys}, at
    from (values {given}) as given (n, {keys}, at)
),

asked as (
    select distinct {keys}
    from entities
),

history as (
    {chosen}
),

numbered as (
    select *, row_number() over (partition by {keys} order by t0) as place
    from history
),

moments as (
    select {keys}, t0 as at, 0 as is_entity, null::bigint as n
    from history
    union all
    select {keys}, at, 1 as is_entity, n
    from entities
),

counted as (
    select
        *,
        sum(1 - is_entity) over (
            partition by {keys}
            order by at, is_entity rows between unbounded preceding and current row
        ) as place
    from moments
)

select e.n, {history_features}
from counted as e
inner join numbered as h on {same} and h.place = e.place {alive}
where e.is_entity = 1
"""


def _parts(view: ViewSql, names: Sequence[str]) -> dict[str, Composable]:
    """Return the parts of both queries; the columns of a history are those of `ViewSql.chosen`."""
    columns = [view.column(name) for name in names]
    oldest = SQL("and h.t0 >= e.at - interval '1 second' * {}")
    return {
        "keys": SQL(", ").join(view.key_columns),
        "key_types": SQL(", ").join(
            SQL("{} {}").format(key, sql_type(field))
            for key, field in zip(view.key_columns, view.keys.values(), strict=True)
        ),
        "asked_keys": SQL(" and ").join(
            SQL("{} = asked.{}").format(view.key(name), key)
            for name, key in zip(view.keys, view.key_columns, strict=True)
        ),
        "source_keys": SQL(", ").join(map(view.key, view.keys)),
        "history": view.history,
        "timestamp": view.times[0],
        "features": SQL(", ").join(SQL("as_of.{}").format(column) for column in columns),
        "history_features": SQL(", ").join(SQL("h.{}").format(column) for column in columns),
        "same": SQL(" and ").join(SQL("h.{0} = e.{0}").format(key) for key in view.key_columns),
        "alive": oldest.format(view.ttl.total_seconds()) if view.ttl else SQL(""),
    }


def _filled(text: str, parts: dict[str, Composable]) -> Composed:
    return SQL(text).format(**parts)

"""Point-in-time joins: each entity row gets the newest features at its own time.

There are two, for engines with and without temporary tables. Both take entities as tuples of
(*join keys, time) and return one row of features for each, in order, all None where there are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Identifier

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
    instead of once per row, and the join is one look-up per row.
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
    connection.execute(
        _filled(
            """
            create temporary table history as
            select {selected}
            from {history} as source
            where ({source_keys}) in (select {keys} from entities)
            and source.{timestamp} <= (select max(at) from entities)
            """,
            parts,
        )
    )
    connection.execute(_filled("create index on history ({indexed})", parts))
    connection.execute("analyze history")
    rows: list[tuple[Any, ...]] = connection.execute(
        _filled(
            """
            select {features}
            from entities as e
            left join lateral (
                select *
                from history as h
                where {same} and h.o0 <= e.at {alive}
                order by {newest_first}
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
    rows: list[tuple[Any, ...]] = [(None,) * len(names)] * len(entities)
    for start in range(0, len(entities), EMBEDDED):
        chunk = entities[start : start + EMBEDDED]
        query = _filled(_EMBEDDED, {**parts, "given": SQL(", ").join([line] * len(chunk))})
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
    select {selected}
    from {history} as source
    inner join asked on {asked_keys}
    where source.{timestamp} <= %s
),

numbered as (
    select *, row_number() over (partition by {keys} order by {oldest_first}) as place
    from history
),

moments as (
    select {keys}, o0 as at, 0 as is_entity, null::bigint as n
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
    """Return the parts of both queries: keys k0, k1, ...; features f0, ...; o0, ... to order by."""
    keys = [Identifier(f"k{i}") for i in range(len(view.keys))]
    features = [Identifier(f"f{i}") for i in range(len(names))]
    order = [Identifier(f"o{i}") for i in range(len(view.order))]
    selected: list[Composable] = [
        SQL("source.{} as {}").format(column, alias)
        for column, alias in zip(
            [*map(view.key, view.keys), *view.order], [*keys, *order], strict=True
        )
    ]
    selected += [
        SQL("{} as {}").format(view.feature(name), alias)
        for name, alias in zip(names, features, strict=True)
    ]
    oldest = SQL("and h.o0 >= e.at - interval '1 second' * {}")
    return {
        "keys": SQL(", ").join(keys),
        "key_types": SQL(", ").join(
            SQL("{} {}").format(key, sql_type(field))
            for key, field in zip(keys, view.keys.values(), strict=True)
        ),
        "asked_keys": SQL(" and ").join(
            SQL("source.{} = asked.{}").format(view.key(name), key)
            for name, key in zip(view.keys, keys, strict=True)
        ),
        "source_keys": SQL(", ").join(SQL("source.{}").format(view.key(k)) for k in view.keys),
        "selected": SQL(", ").join(selected),
        "history": view.history,
        "timestamp": view.order[0],
        "indexed": SQL(", ").join([*keys, *order]),
        "features": SQL(", ").join(SQL("as_of.{}").format(name) for name in features),
        "history_features": SQL(", ").join(SQL("h.{}").format(name) for name in features),
        "same": SQL(" and ").join(SQL("h.{0} = e.{0}").format(key) for key in keys),
        "alive": oldest.format(view.ttl.total_seconds()) if view.ttl else SQL(""),
        "oldest_first": SQL(", ").join(order),
        "newest_first": SQL(", ").join(SQL("h.{} desc").format(column) for column in order),
    }


def _filled(text: str, parts: dict[str, Composable]) -> Composed:
    return SQL(text).format(**parts)

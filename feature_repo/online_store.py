"""Feast's online store over the live views: what is served is what was just computed.

A read is one query on the mart itself, so there is nothing to materialize and no second copy
that could differ from the first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

import psycopg
from feast import Entity, FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.type_map import python_values_to_proto_values
from psycopg.sql import SQL, Composed, Identifier

from feature_repo.postgres import PostgresConfig, ViewSql, sql_type

Row = tuple[datetime | None, dict[str, Value] | None]

# What a connection raises that lost its server, or whose prepared plans no longer fit the views.
_STALE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.FeatureNotSupported)


class LiveViewOnlineStoreConfig(PostgresConfig):
    """Settings of `LiveViewOnlineStore`."""

    type: Literal["feature_repo.online_store.LiveViewOnlineStore"] = (
        "feature_repo.online_store.LiveViewOnlineStore"
    )


class LiveViewOnlineStore(OnlineStore):
    """Reads the newest row of each entity from the view that the tag `online_view` names."""

    def __init__(self) -> None:
        self._idle: deque[psycopg.Connection[tuple[Any, ...]]] = deque()
        self._queries: dict[tuple[str, ...], tuple[FeatureView, ViewSql, bytes]] = {}

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Row]:
        """Return (event time, values) of each entity, in order; (None, None) where unknown.

        Safe to call from several threads. A connection that was lost is replaced once.

        Raises:
            psycopg.Error: the server cannot be reached, or the view is not as declared.
        """
        names = requested_features or [field.name for field in table.features]
        view, query = self._prepared(table, names)
        found = self._fetch(config, query, _key_arrays(view, entity_keys))
        rows: list[Row] = [(None, None)] * len(entity_keys)
        columns = [
            python_values_to_proto_values(
                [row[2 + i] for row in found], view.features[name].dtype.to_value_type()
            )
            for i, name in enumerate(names)
        ]
        for row, *values in zip(found, *columns, strict=True):
            rows[row[0] - 1] = (row[1], dict(zip(names, values, strict=True)))
        return rows

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Refuse: the views are computed from the events.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"feature view {table.name} is read from a live view: "
            "there is nothing to materialize or push, send events instead"
        )

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Do nothing: the views belong to dbt."""

    def teardown(
        self,
        config: RepoConfig,  # noqa: ARG002
        tables: Sequence[FeatureView],  # noqa: ARG002
        entities: Sequence[Entity],  # noqa: ARG002
    ) -> None:
        """Let go of the connections; the views belong to dbt."""
        self._close()

    def _prepared(self, table: FeatureView, names: list[str]) -> tuple[ViewSql, bytes]:
        """Return the query of one feature view, built once for as long as its definition lives."""
        key = (table.name, *names)
        definition, view, query = self._queries.get(key, (None, None, None))
        if definition is not table or view is None or query is None:
            view = ViewSql.of(table)
            query = _newest(view, names).as_bytes()
            self._queries[key] = (table, view, query)
        return view, query

    def _fetch(
        self, config: RepoConfig, query: bytes, parameters: list[list[Any]]
    ) -> list[tuple[Any, ...]]:
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = config.online_store.connect()
        try:
            return self._run(connection, query, parameters)
        except _STALE:
            self._close()
            return self._run(config.online_store.connect(), query, parameters)

    def _run(
        self,
        connection: psycopg.Connection[tuple[Any, ...]],
        query: bytes,
        parameters: list[list[Any]],
    ) -> list[tuple[Any, ...]]:
        try:
            rows = connection.execute(query, parameters).fetchall()
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return rows

    def _close(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return


def _newest(view: ViewSql, names: list[str]) -> Composed:
    """Rows (position from 1, event time, *features) of the entities that the view knows.

    The limit keeps the planner from pulling the inner query up: it is run with one entity's keys
    at a time, which reach the indexes below the view.
    """
    aliases = [Identifier(f"k{i}") for i in range(len(view.keys))]
    return SQL(
        """
        select k.position, newest.*
        from unnest({arrays}) with ordinality as k ({aliases}, position)
        cross join lateral (
            select source.{timestamp}, {features}
            from {relation} as source
            where {matches}
            order by {newest_first}
            limit 1
        ) as newest
        """
    ).format(
        arrays=SQL(", ").join(SQL("%s::{}[]").format(sql_type(f)) for f in view.keys.values()),
        aliases=SQL(", ").join(aliases),
        timestamp=view.order[0],
        features=SQL(", ").join(map(view.feature, names)),
        relation=view.newest,
        matches=SQL(" and ").join(
            SQL("source.{} = k.{}").format(view.key(name), alias)
            for name, alias in zip(view.keys, aliases, strict=True)
        ),
        newest_first=SQL(", ").join(SQL("source.{} desc").format(c) for c in view.order),
    )


def _key_arrays(view: ViewSql, entity_keys: list[EntityKey]) -> list[list[Any]]:
    """Return one array per join key, each with one value per entity."""
    entities = [
        {
            name: getattr(value, value.WhichOneof("val"))
            for name, value in zip(key.join_keys, key.entity_values, strict=True)
        }
        for key in entity_keys
    ]
    return [[entity[name] for entity in entities] for name in view.keys]

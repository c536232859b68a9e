"""Feast's online store over the live views: features are served as soon as they are computed.

A read is one query on the mart itself, so there is nothing to materialize and no second copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import psycopg
from feast import Entity, FeatureView, ValueType
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig
from feast.type_map import python_values_to_proto_values
from psycopg.sql import SQL, Composed

from headrace.engine import DIALECTS
from headrace.engine.dialect import Connection, Dialect
from headrace.features.nearest import Filter, nearest
from headrace.features.view_sql import PostgresConfig, ViewSql, sql_type

Row = tuple[datetime | None, dict[str, Value] | None]
Key = tuple[Any, ...]
# The event time of a row, and its features in the order of `ViewSql.features`.
Newest = tuple[datetime, tuple[Any, ...]]
Query = tuple[SQL | Composed, list[Any]]
Document = tuple[datetime | None, EntityKey | None, dict[str, Value] | None]
FLOAT = ValueType.DOUBLE

# Raised when the server is lost, or when prepared plans no longer match the views.
_STALE = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.FeatureNotSupported)


class LiveViewOnlineStoreConfig(PostgresConfig):
    """Settings of `LiveViewOnlineStore`."""

    type: Literal["headrace.features.online_store.LiveViewOnlineStore"] = (
        "headrace.features.online_store.LiveViewOnlineStore"
    )


class LiveViewOnlineStore(OnlineStore):
    """Reads the newest row of each entity from the view that the tag `online_view` names."""

    def __init__(self) -> None:
        self._idle: deque[Connection] = deque()
        self._views: dict[str, tuple[FeatureView, ViewSql]] = {}

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[Row]:
        """Return (event time, values) of each entity, in order; (None, None) where unknown.

        Safe to call from several threads. A lost connection is replaced once.

        Raises:
            psycopg.Error: the server cannot be reached, or the view is not as declared.
        """
        if not entity_keys:
            return []
        names = requested_features or [field.name for field in table.features]
        view = self._view(table)
        entities = _key_tuples(view, entity_keys)
        (found,) = self.newest(config, [(view, entities)])
        places = {name: place for place, name in enumerate(view.features)}
        columns = [
            _protos(
                [features[places[name]] for _, features in found.values()],
                view.features[name].dtype.to_value_type(),
            )
            for name in names
        ]
        rows: dict[Key, Row] = {
            key: (at, dict(zip(names, values, strict=True)))
            for (key, (at, _)), *values in zip(found.items(), *columns, strict=True)
        }
        return [rows.get(entity, (None, None)) for entity in entities]

    def newest(
        self, config: RepoConfig, reads: Sequence[tuple[ViewSql, Collection[Key]]]
    ) -> list[dict[Key, Newest]]:
        """Return the newest rows of the entities that each view knows, by one query for each.

        An entity is its join keys in the order of the view's. The values are those that Feast
        returns to Python for the same read, without its messages in between. Where the engine can,
        all queries are one round trip.

        Safe to call from several threads. A lost connection is replaced once.

        Raises:
            psycopg.Error: the server cannot be reached, or a view is not as declared.
        """
        dialect = config.online_store.dialect
        queries = [
            _newest(dialect, view, [list(set(values)) for values in zip(*entities, strict=True)])
            for view, entities in reads
        ]
        found = self._fetch(config, queries)
        return [_by_key(view, rows) for (view, _), rows in zip(reads, found, strict=True)]

    def retrieve_online_documents_v2(
        self,
        config: RepoConfig,
        table: FeatureView,
        requested_features: list[str],
        embedding: list[float] | None,
        top_k: int,
        distance_metric: str | None = None,
        query_string: str | None = None,
        filters: Filter = None,
        include_feature_view_version_metadata: bool = False,  # noqa: ARG002
    ) -> list[Document]:
        """Return (event time, entity, features and `distance`) of the rows nearest to a vector.

        They are in the order of their entities: Feast 0.67 puts the features of the first row by
        the least entity, those of the second beside the next, whatever entities the rows have.
        `filters` are on join keys and features.

        Raises:
            ValueError: the view has no vector or several, the metric is not that of its field, a
                text is asked for, or a filter names what is not there.
            psycopg.Error: the server cannot be reached, or the view is not as declared.
        """
        if embedding is None or query_string is not None:
            raise ValueError(f"feature view {table.name}: must be asked by a vector, not by a text")
        view = self._view(table)
        asked = (table, view, embedding, top_k, distance_metric, filters)
        found = self._fetch(config, [nearest(*asked)])[0]
        if len(found) < top_k:  # an index may not get past what is equal
            found = self._fetch(config, [nearest(*asked, exactly=True)])[0]
        found.sort(key=lambda row: row[: len(view.keys)])
        keys, features = list(view.keys), list(view.features)
        first = len(keys) + 1
        columns = {
            name: _protos([row[first + i] for row in found], field.dtype.to_value_type())
            for i, (name, field) in enumerate(view.features.items())
        }
        columns["distance"] = _protos([row[first + len(features)] for row in found], FLOAT)
        return [
            (
                row[len(keys)],
                EntityKey(
                    join_keys=keys,
                    entity_values=[
                        _protos([value], view.keys[name].dtype.to_value_type())[0]
                        for name, value in zip(keys, row, strict=False)
                    ],
                ),
                {name: columns[name][number] for name in [*requested_features, "distance"]},
            )
            for number, row in enumerate(found)
        ]

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Raise: the views are computed from the events.

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
        """Close the connections; the views belong to dbt."""
        self._close()

    def _view(self, table: FeatureView) -> ViewSql:
        """Return a feature view as SQL, cached until its definition changes."""
        definition, view = self._views.get(table.name, (None, None))
        if definition is not table or view is None:
            view = ViewSql.of(table)
            self._views[table.name] = (table, view)
        return view

    def _fetch(self, config: RepoConfig, queries: Sequence[Query]) -> list[list[Any]]:
        dialect = config.online_store.dialect
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = _connect(config)
        try:
            return self._run(dialect, connection, queries)
        except _STALE:
            self._close()
            return self._run(dialect, _connect(config), queries)

    def _run(
        self, dialect: Dialect, connection: Connection, queries: Sequence[Query]
    ) -> list[list[Any]]:
        try:
            with dialect.together(connection) if len(queries) > 1 else nullcontext():
                cursors = [connection.execute(text, values) for text, values in queries]
            rows = [cursor.fetchall() for cursor in cursors]
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


def _connect(config: RepoConfig) -> Connection:
    """Return a new connection; the views take longer to plan than to read."""
    connection: Connection = config.online_store.connect()
    dialect = config.online_store.dialect
    dialect.keep_plans(connection)
    if dialect.has_vectors:
        # Else rows that filters leave out count among the candidates, and fewer come back.
        connection.execute("set hnsw.iterative_scan = 'strict_order'")
    return connection


# What psycopg returns otherwise than Feast does.
_FROM_SQL: dict[ValueType, Callable[[Any], Any]] = {
    ValueType.FLOAT: lambda value: float(np.float32(value)),
    ValueType.UNIX_TIMESTAMP: lambda value: value.astimezone(UTC),
}


def _by_key(view: ViewSql, found: Sequence[tuple[Any, ...]]) -> dict[Key, Newest]:
    """Return rows of `ViewSql.chosen` by their keys, with the values that Feast would return."""
    width, first = len(view.keys), len(view.keys) + len(view.times)
    changed = [
        (place, _FROM_SQL[kind])
        for place, field in enumerate(view.features.values())
        if (kind := field.dtype.to_value_type()) in _FROM_SQL
    ]
    rows: dict[Key, Newest] = {}
    for row in found:
        features = row[first:]
        if changed:
            values = list(features)
            for place, convert in changed:
                if values[place] is not None:
                    values[place] = convert(values[place])
            features = tuple(values)
        rows[row[:width]] = row[width], features
    return rows


def _newest(dialect: Dialect, view: ViewSql, asked: list[list[Any]]) -> Query:
    """Return the query of the newest rows (`ViewSql.chosen`), and its parameters.

    Each join key may have any of its values in `asked`, so the rows are all known combinations.
    That is a superset of the entities, but the planner pushes such conditions below aggregates and
    windows, and the view is computed once for any number of entities.
    """
    matches = [
        dialect.among(view.key(name), sql_type(field), values)
        for (name, field), values in zip(view.keys.items(), asked, strict=True)
    ]
    text = _text(dialect.name, view, tuple(map(len, asked)))
    return text, [value for _, values in matches for value in values]


@lru_cache(maxsize=1_024)
def _text(engine: str, view: ViewSql, asked: tuple[int, ...]) -> SQL:
    """Return the text of `_newest` on an engine, for so many values of each join key."""
    conditions = [
        DIALECTS[engine].among(view.key(name), sql_type(field), [None] * count)[0]
        for (name, field), count in zip(view.keys.items(), asked, strict=True)
    ]
    rows = SQL("{} as source where {} and {} is not null").format(
        view.newest, SQL(" and ").join(conditions), view.times[0]
    )
    return SQL(view.chosen(rows, of_each_time=False).as_string())


def _protos(values: list[Any], kind: ValueType) -> list[Value]:
    if kind is ValueType.BYTES:
        # Feast makes b"" null where no longer value is beside it.
        return [Value() if value is None else Value(bytes_val=value) for value in values]
    found: list[Value] = python_values_to_proto_values(values, kind)
    return found


def _key_tuples(view: ViewSql, entity_keys: list[EntityKey]) -> list[tuple[Any, ...]]:
    """Return the values of each entity in the order of the view's join keys."""
    entities = [
        {
            name: getattr(value, value.WhichOneof("val"))
            for name, value in zip(key.join_keys, key.entity_values, strict=True)
        }
        for key in entity_keys
    ]
    return [tuple(entity[name] for name in view.keys) for entity in entities]

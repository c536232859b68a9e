"""Shared by both stores: their settings, and the SQL of a feature view."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Literal

import pyarrow as pa
from feast import FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.repo_config import FeastConfigBaseModel
from feast.type_map import feast_value_type_to_pa
from psycopg.sql import SQL, Composable, Composed, Identifier
from pydantic import SecretStr

from headrace.engine import DIALECTS
from headrace.engine.dialect import Connection, Dialect

ONLINE_VIEW = "online_view"
UTC_MICROSECONDS = pa.timestamp("us", tz="UTC")

# Feast's type → PostgreSQL's. A column is cast to its declared type, so both stores return
# the same value whatever type the view computes.
SQL_TYPES = {
    ValueType.STRING: "text",
    ValueType.INT32: "integer",
    ValueType.INT64: "bigint",
    ValueType.FLOAT: "real",
    ValueType.DOUBLE: "double precision",
    ValueType.BOOL: "boolean",
    ValueType.BYTES: "bytea",
    ValueType.UNIX_TIMESTAMP: "timestamptz",
    ValueType.FLOAT_LIST: "real[]",
}


class PostgresConfig(FeastConfigBaseModel):
    """Settings of a store. With an empty `dsn` libpq reads the PG* variables."""

    engine: Literal["postgres", "risingwave"] = "postgres"
    dsn: SecretStr = SecretStr("")

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.engine]

    def connect(self) -> Connection:
        """Return a new connection in autocommit mode whose session speaks UTC."""
        return self.dialect.connect(self.dsn.get_secret_value(), application_name="headrace-feast")


@dataclass(frozen=True, eq=False)
class ViewSql:
    """Parts of the SQL that reads one feature view.

    Several rows of an entity may have one event time. Which of them counts is the same in both
    stores and on both engines: the one created last, where the source has a created timestamp; of
    these the one with the greatest features, compared one by one in the order of their names, as
    they are returned. Text is compared by its bytes, and null is less than anything.

    Attributes:
        history: every row of every entity.
        newest: a relation with at least the newest row of each entity.
        keys: join keys by name, in the view's order.
        features: features by name, in the order of their names.
        times: the columns of the event time and of the created timestamp, if there is one.
        ttl: how old a historical value may be.
    """

    history: Composed
    newest: Composed
    keys: dict[str, Field]
    features: dict[str, Field]
    times: list[Composed]
    ttl: timedelta | None
    _columns: dict[str, str]

    @classmethod
    def of(cls, view: FeatureView) -> ViewSql:
        """Read the parts from a definition.

        Raises:
            TypeError: its source is no PostgreSQLSource, or a field's type is not supported.
        """
        source = view.batch_source
        if not isinstance(source, PostgreSQLSource):
            raise TypeError(
                f"feature view {view.name}: its source must be a PostgreSQLSource, "
                f"got {type(source).__name__}"
            )
        for field in [*view.entity_columns, *view.features]:
            if field.dtype.to_value_type() not in SQL_TYPES:
                allowed = ", ".join(sorted(kind.name for kind in SQL_TYPES))
                raise TypeError(
                    f"feature view {view.name}: the type of {field.name} must be one of {allowed}, "
                    f"got {field.dtype}"
                )
        history = source.get_table_query_string()
        newest = view.tags.get(ONLINE_VIEW, history)
        times = [source.timestamp_field, source.created_timestamp_column]
        return cls(
            history=_raw(history),
            newest=_raw(newest),
            keys={field.name: field for field in view.entity_columns},
            features={field.name: field for field in sorted(view.features, key=lambda f: f.name)},
            times=[_column(name) for name in times if name],
            ttl=view.ttl or None,
            _columns={name: column for column, name in source.field_mapping.items()},
        )

    @cached_property
    def identity(self) -> str:
        """What is read of the newest rows, by keys and in which columns: equal for equal views."""
        newest = self.chosen(SQL("{} as source").format(self.newest), of_each_time=False)
        return newest.as_string()

    def key(self, name: str) -> Composed:
        """Return the source's column of the join key `name`."""
        return _column(self._columns.get(name, name))

    def column_of(self, name: str) -> Composed:
        """Return the source's column of a join key or a feature, of its own type."""
        return _column(self._columns.get(name, name))

    def feature(self, name: str) -> Composed:
        """Return the feature `name` as an expression of its declared type; NaN becomes null."""
        field = self.features[name]
        kind = field.dtype.to_value_type()
        value = SQL("{}::{}").format(_column(self._columns.get(name, name)), sql_type(field))
        if kind in (ValueType.FLOAT, ValueType.DOUBLE):
            # 0 is added because -0 equals it, and either of the two could be chosen.
            return SQL("nullif({}, 'NaN') + 0::{}").format(value, sql_type(field))
        if kind is ValueType.UNIX_TIMESTAMP:
            return SQL("date_trunc('second', {})").format(value)
        return Composed([value])

    def column(self, name: str) -> Identifier:
        """Return the column of the feature `name` in the result of `chosen`."""
        return Identifier(f"f{list(self.features).index(name)}")

    @property
    def key_columns(self) -> list[Identifier]:
        """The columns of the join keys in the result of `chosen`."""
        return [Identifier(f"k{i}") for i in range(len(self.keys))]

    def chosen(self, rows: Composed, *, of_each_time: bool) -> Composed:
        """Return a query of the newest row of each entity, or of each entity and event time.

        Its columns are the join keys k0, k1, ...; the event time t0 and the created timestamp t1,
        if there is one; all features f0, f1, ...

        Args:
            rows: what follows FROM; the history or the newest rows are named `source` in it.
        """
        times = [Identifier(f"t{i}") for i in range(len(self.times))]
        newest_first: list[Composable] = [*times]
        selected: list[Composable] = [
            SQL("{}::{} as {}").format(self.key(name), sql_type(field), column)
            for (name, field), column in zip(self.keys.items(), self.key_columns, strict=True)
        ]
        selected += [
            SQL("{} as {}").format(time, alias)
            for time, alias in zip(self.times, times, strict=True)
        ]
        for name, field in self.features.items():
            column = self.column(name)
            selected.append(SQL("{} as {}").format(self.feature(name), column))
            is_text = field.dtype.to_value_type() is ValueType.STRING
            newest_first.append(SQL('{} collate "C"').format(column) if is_text else column)
        return SQL(
            "select distinct on ({one}) * from (select {selected} from {rows}) as found "
            "order by {keys}, {newest_first}"
        ).format(
            one=SQL(", ").join([*self.key_columns, *times[:of_each_time]]),
            selected=SQL(", ").join(selected),
            rows=rows,
            keys=SQL(", ").join(self.key_columns),
            newest_first=SQL(", ").join(SQL("{} desc nulls last").format(c) for c in newest_first),
        )


def sql_type(field: Field) -> SQL:
    """Return the PostgreSQL type of a field."""
    return SQL(SQL_TYPES[field.dtype.to_value_type()])


def arrow_type(field: Field) -> pa.DataType:
    """Return Arrow's type of the values of a field."""
    kind = field.dtype.to_value_type()
    return UTC_MICROSECONDS if kind is ValueType.UNIX_TIMESTAMP else feast_value_type_to_pa(kind)


def _column(name: str) -> Composed:
    return SQL("source.{}").format(Identifier(name))


def _raw(text: str) -> Composed:
    return Composed([SQL(text)])

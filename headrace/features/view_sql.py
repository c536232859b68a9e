"""Shared by both stores: their settings, and the SQL of a feature view."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from feast import FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.repo_config import FeastConfigBaseModel
from psycopg.sql import SQL, Composed, Identifier
from pydantic import SecretStr

from headrace.engine import DIALECTS
from headrace.engine.dialect import Connection, Dialect

ONLINE_VIEW = "online_view"

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


@dataclass(frozen=True)
class ViewSql:
    """Parts of the SQL that reads one feature view.

    Attributes:
        history: every row of every entity.
        newest: a relation with at least the newest row of each entity.
        keys: join keys by name, in the view's order.
        features: features by name.
        order: the columns whose greatest values are the newest row; the first is the event time.
    """

    history: Composed
    newest: Composed
    keys: dict[str, Field]
    features: dict[str, Field]
    order: list[Identifier]
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
        order = [source.timestamp_field, source.created_timestamp_column]
        return cls(
            history=_raw(history),
            newest=_raw(newest),
            keys={field.name: field for field in view.entity_columns},
            features={field.name: field for field in view.features},
            order=[Identifier(column) for column in order if column],
            ttl=view.ttl or None,
            _columns={name: column for column, name in source.field_mapping.items()},
        )

    def key(self, name: str) -> Identifier:
        """Return the source's column of the join key `name`."""
        return Identifier(self._columns.get(name, name))

    def feature(self, name: str) -> Composed:
        """Return the feature `name` as an expression of its declared type; NaN becomes null."""
        kind = self.features[name].dtype.to_value_type()
        value = SQL("{}::{}").format(
            Identifier(self._columns.get(name, name)), SQL(SQL_TYPES[kind])
        )
        if kind in (ValueType.FLOAT, ValueType.DOUBLE):
            return SQL("nullif({}, 'NaN')").format(value)
        if kind is ValueType.UNIX_TIMESTAMP:
            return SQL("date_trunc('second', {})").format(value)
        return Composed([value])


def sql_type(field: Field) -> SQL:
    """Return the PostgreSQL type of a field."""
    return SQL(SQL_TYPES[field.dtype.to_value_type()])


def _raw(text: str) -> Composed:
    return Composed([SQL(text)])

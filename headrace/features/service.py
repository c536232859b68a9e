"""What a feature service is made of: views that are read, and views that are computed from them.

What cannot be read is refused when the service is opened, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
from feast import FeatureService, FeatureView, Field, OnDemandFeatureView, ValueType
from feast.base_feature_view import BaseFeatureView
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.feature_view_projection import FeatureViewProjection
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.labeling.label_view import LabelView

from headrace.errors import SettingError
from headrace.features.view_sql import SQL_TYPES, ViewSql, arrow_type

Row = dict[str, Any]
# What views of other classes than FeatureView hold when Feast has to compute them.
COMPUTED = ("udf", "feature_transformation", "aggregations", "source_views")


@dataclass(frozen=True)
class ReadView:
    """A feature view of which some features are read.

    Attributes:
        source: the table of its history, or the query in parentheses.
    """

    name: str
    source: str
    keys: frozenset[str]
    features: tuple[str, ...]
    sql: ViewSql

    @property
    def references(self) -> list[str]:
        """As Feast takes them."""
        return [f"{self.name}:{feature}" for feature in self.features]

    @property
    def names(self) -> list[str]:
        """As Feast returns them."""
        return [f"{self.name}__{feature}" for feature in self.features]

    @cached_property
    def key_types(self) -> list[tuple[str, ValueType]]:
        """The join keys in their order, with their types."""
        return [(name, field.dtype.to_value_type()) for name, field in self.sql.keys.items()]

    @cached_property
    def places(self) -> list[tuple[str, int]]:
        """The names of the features, and where each is in a row of the view."""
        order = list(self.sql.features)
        return [
            (name, order.index(feature))
            for name, feature in zip(self.names, self.features, strict=True)
        ]


class ComputedView:
    """An on-demand feature view: its function, called with one row at a time.

    So a value is the same whatever rows are read beside it. The features of its sources are given
    with and without the name of their view; where there is none, a function of Python gets None,
    one of pandas what pandas has for it.
    """

    def __init__(self, view: OnDemandFeatureView, features: Sequence[Field]) -> None:
        self._view = view
        self._features = [(field, arrow_type(field)) for field in features]
        self._inputs = {
            f"{source.name}__{field.name}": arrow_type(field)
            for source in view.source_feature_view_projections.values()
            for field in source.features
        }
        self.names = [f"{view.name}__{field.name}" for field in features]
        self.sources = frozenset(
            source.name for source in view.source_feature_view_projections.values()
        )

    def of(self, row: Mapping[str, Any]) -> Row:
        """Return the features of a row, which holds the features that were read.

        Raises:
            ValueError: the function does not return each feature once, of its declared type.
        """
        try:
            found = self._called({name: row[name] for name in self._inputs})
        except Exception as error:
            error.add_note(f"in the on-demand feature view {self._view.name}")
            raise
        return {
            name: self._value(found, field, kind)
            for name, (field, kind) in zip(self.names, self._features, strict=True)
        }

    def _called(self, given: Row) -> Row:
        if self._view.mode == "python":
            found: Row = self._view.transform_dict({name: [value] for name, value in given.items()})
            return found
        table = pa.table(
            {name: pa.array([given[name]], type=kind) for name, kind in self._inputs.items()}
        )
        returned: Row = self._view.transform_arrow(table).to_pydict()
        return returned

    def _value(self, found: Row, field: Field, kind: pa.DataType) -> Any:
        problem = f"on-demand feature view {self._view.name}: {field.name} must be"
        if field.name not in found:
            raise ValueError(f"{problem} in what its function returns, got {', '.join(found)}")
        values = [found[field.name]] if self._view.singleton else found[field.name]
        if isinstance(values, str | bytes) or not isinstance(values, Sized) or len(values) != 1:
            raise ValueError(f"{problem} a list of one value for one row, got {values!r}")
        try:
            (value,) = pa.array(values, from_pandas=True).cast(kind).to_pylist()
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise ValueError(f"{problem} of type {field.dtype}, got {values[0]!r}") from error
        return value.replace(microsecond=0) if isinstance(value, datetime) else value


def parts(
    service: FeatureService, views: Mapping[str, BaseFeatureView]
) -> tuple[list[ReadView], list[ComputedView], list[str]]:
    """Return the views that a service reads and computes, and the names of its features.

    Args:
        views: all views by name; they and the service were registered, which completes them.

    Raises:
        SettingError: it holds a view that is not read.
    """
    read: dict[str, dict[str, None]] = {}
    computed: list[ComputedView] = []
    names: list[str] = []
    for projection in service.feature_view_projections:
        view = _known(service, projection, views)
        names += [f"{view.name}__{field.name}" for field in projection.features]
        used = [projection]
        if isinstance(view, OnDemandFeatureView):
            used = list(view.source_feature_view_projections.values())
            for source in used:
                _known(service, source, views)
            computed.append(ComputedView(view, projection.features))
        for each in used:
            features = read.setdefault(each.name, {})
            features |= dict.fromkeys(field.name for field in each.features)
    return (
        [_read_view(views[name], tuple(features)) for name, features in read.items()],
        computed,
        list(dict.fromkeys(names)),
    )


def _read_view(view: BaseFeatureView, features: tuple[str, ...]) -> ReadView:
    assert isinstance(view, FeatureView) and isinstance(view.batch_source, PostgreSQLSource)
    source = view.batch_source.get_table_query_string()
    return ReadView(view.name, source, frozenset(view.join_keys), features, ViewSql.of(view))


def _known(
    service: FeatureService, projection: FeatureViewProjection, views: Mapping[str, BaseFeatureView]
) -> BaseFeatureView:
    view = views.get(projection.name)
    problem = "it is not at the top level of the definitions" if view is None else None
    if projection.name_alias or projection.join_key_map:
        problem = "it is renamed; define another feature view over the same source instead"
    elif projection.version_tag is not None:
        problem = "a version of it is asked for, and only the latest can be read"
    elif view is not None:
        problem = _problem(view)
    if view is None or problem:
        kind = type(view).__name__ if view else "feature view"
        raise SettingError(
            f"service {service.name}: cannot read {kind} {projection.name}: {problem}"
        )
    return view


def _problem(view: BaseFeatureView) -> str | None:
    """Return why a view cannot be read, if so."""
    if isinstance(view, LabelView):
        return "a label is no feature; send labels as feedback, and take it out of the service"
    if isinstance(view, OnDemandFeatureView):
        if view.get_request_data_schema():
            return "it needs data of the request; its sources must be feature views"
        if view.mode not in ("python", "pandas") or view.aggregations:
            return "it must have a function, and the mode python or pandas"
        if view.write_to_online_store:
            return "nothing is written to the online store; leave write_to_online_store out"
        unread = [f for f in view.features if f.dtype.to_value_type() not in SQL_TYPES]
        return f"the type of {unread[0].name} is not supported" if unread else None
    assert isinstance(view, FeatureView)
    if any(getattr(view, name, None) for name in COMPUTED):
        return "Feast would have to compute it; compute it in a mart, and read that"
    if DUMMY_ENTITY_NAME in view.entities:
        return "it has no entity"
    try:
        ViewSql.of(view)
    except TypeError as error:
        return str(error).removeprefix(f"feature view {view.name}: ")
    return None

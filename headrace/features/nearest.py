"""The SQL of `retrieve_online_documents_v2`: the rows whose vectors are nearest to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feast import FeatureView, Field
from feast.filter_models import ComparisonFilter, CompoundFilter, FilterTranslator
from psycopg.sql import SQL, Composed, Literal

from headrace.features.view_sql import ViewSql, sql_type

Filter = ComparisonFilter | CompoundFilter | None

# pgvector's operators, by the names that Feast has for them.
METRICS = {"cosine": "<=>", "l2": "<->", "l1": "<+>", "inner_product": "<#>"}
OPERATORS = {"eq": "=", "ne": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
LISTS = {"in": "= any", "nin": "<> all"}


def nearest(
    table: FeatureView,
    view: ViewSql,
    embedding: Sequence[float],
    most: int,
    metric: str | None,
    filters: Filter,
    *,
    exactly: bool = False,
) -> tuple[Composed, list[Any]]:
    """Return a query of the rows nearest to `embedding`, nearest first, and its parameters.

    Its columns are the join keys, the event time, all features by name, and the distance. The
    column of the vector is compared as pgvector has it, so the index for its metric serves, unless
    it is to be done exactly. The negative of the inner product is its distance.

    Raises:
        ValueError: there is no vector in the view or several, or what is asked does not fit it.
    """
    field = _vector(table)
    metric = metric or field.vector_search_metric or "cosine"
    if metric.lower() not in METRICS:
        raise ValueError(f"distance_metric: must be one of {', '.join(METRICS)}, got {metric!r}")
    if field.vector_length and len(embedding) != field.vector_length:
        raise ValueError(f"query: must have {field.vector_length} numbers, got {len(embedding)}")
    kind = SQL("halfvec({})").format(Literal(len(embedding)))
    column = view.column_of(field.name)
    distance = SQL("({}::{kind} {} %s::{kind})").format(
        column, SQL(METRICS[metric.lower()]), kind=kind
    )
    asked = f"[{','.join(map(str, embedding))}]"
    conditions, parameters = Filters(view).translate(filters)
    selected = [
        *(SQL("{}::{}").format(view.key(name), sql_type(one)) for name, one in view.keys.items()),
        view.times[0],
        *map(view.feature, view.features),
    ]
    query = SQL(
        "select {selected}, {distance} from {rows} as source "
        "where vector_dims({column}) = {n} and {conditions} "
        "order by {distance}{exactly} limit {most}"
    ).format(
        selected=SQL(", ").join(selected),
        distance=distance,
        rows=view.newest,
        column=column,
        n=Literal(len(embedding)),
        conditions=conditions,
        exactly=SQL(" + 0" if exactly else ""),
        most=Literal(most),
    )
    return query, [asked, *parameters, asked]


def _vector(table: FeatureView) -> Field:
    vectors = [field for field in table.features if field.vector_index]
    if len(vectors) != 1:
        raise ValueError(
            f"feature view {table.name}: must have one field with vector_index, got {len(vectors)}"
        )
    return vectors[0]


class Filters(FilterTranslator):
    """Feast's filters as a condition on the rows of a view, and its parameters."""

    def __init__(self, view: ViewSql) -> None:
        self._view = view

    def translate(self, filters: Filter) -> tuple[Composed, list[Any]]:
        """Return the condition, true where there is no filter.

        Raises:
            ValueError: a filter names what is not in the view.
        """
        if filters is None:
            return SQL("{}").format(SQL("true")), []
        found: tuple[Composed, list[Any]] = self._dispatch(filters)
        return found

    def translate_comparison(self, f: ComparisonFilter) -> tuple[Composed, list[Any]]:
        fields = {**self._view.keys, **self._view.features}
        if f.key not in fields:
            raise ValueError(f"filters: key must be one of {', '.join(fields)}, got {f.key!r}")
        column, kind = self._view.column_of(f.key), sql_type(fields[f.key])
        if f.type in LISTS:
            condition = SQL("{} {}(%s::{}[])").format(column, SQL(LISTS[f.type]), kind)
            return condition, [list(f.value)]
        return SQL("{} {} %s::{}").format(column, SQL(OPERATORS[f.type]), kind), [f.value]

    def translate_compound(self, f: CompoundFilter) -> tuple[Composed, list[Any]]:
        parts = [self._dispatch(one) for one in f.filters]
        word = SQL(f" {f.type} ")
        condition = SQL("({})").format(word.join([part for part, _ in parts] or [SQL("true")]))
        return condition, [value for _, values in parts for value in values]

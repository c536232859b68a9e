"""The size of RisingWave's plans, estimated from syntax trees without a RisingWave.

A streaming plan keeps an actor running for each of its operators (at parallelism 1), of which a
cluster allows 400 at most and 100 with a good conscience. A batch plan is a tree: a view or a CTE
that is named twice is planned twice, and every table that is named is one scan.

Counted against what 2.8.4 made of the models of November 2026, when all marts were materialized:
preference_winrate 48 (48 there), data_quality 44 (53), model_performance 66 (63), alerts 28 (26).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp

# Queries of plain views by name; any other relation is a table to its readers.
Views = Mapping[str, exp.Query]
Scope = dict[str, tuple[exp.Query, "Scope"]]


@dataclass
class _Streaming:
    """Counts operators; a CTE that is referenced twice counts once."""

    views: Views
    operators: int = 0
    seen: set[object] = field(default_factory=set)

    def query(self, query: exp.Query, scope: Scope) -> None:
        if isinstance(query, exp.Subquery):
            self.query(query.this, scope)
            return
        scope = _inside(query, scope)
        if isinstance(query, exp.SetOperation):
            self.operators += 2 if query.args.get("distinct") else 1
            self.query(query.left, scope)
            self.query(query.right, scope)
            return
        for relation in _relations(query):
            self.relation(relation, scope)
        self.operators += len(query.args.get("joins") or [])
        for subquery in _conditions(query):
            self.operators += 1
            self.query(subquery, scope)
        self.operators += bool(query.args.get("distinct"))
        self.operators += _aggregates(query)
        windows = {
            tuple(key.sql() for key in window.args.get("partition_by") or [])
            for selected in query.expressions
            for window in selected.find_all(exp.Window)
        }
        self.operators += len(windows)

    def relation(self, relation: exp.Expr, scope: Scope) -> None:
        if isinstance(relation, exp.Subquery):
            self.query(relation.this, scope)
        elif isinstance(relation, exp.Table):
            name = _name(relation)
            found = scope.get(name) or ((self.views[name], {}) if name in self.views else None)
            key = id(found[0]) if found else name
            if key in self.seen:
                return
            self.seen.add(key)
            if found:
                self.query(*found)
            else:
                self.operators += 1


def operators(query: exp.Query, views: Views) -> int:
    """Return about how many fragments a materialized view is; `views` are plain ones by name."""
    counting = _Streaming(views)
    counting.query(query, {})
    return counting.operators


def scans(query: exp.Query, views: Views) -> int:
    """Return how many scans a batch query is; `views` are plain ones by name."""
    known: dict[str, int] = {}

    def of_query(query: exp.Query, scope: Scope) -> int:
        if isinstance(query, exp.Subquery):
            return of_query(query.this, scope)
        scope = _inside(query, scope)
        if isinstance(query, exp.SetOperation):
            return of_query(query.left, scope) + of_query(query.right, scope)
        return sum(of_relation(each, scope) for each in _relations(query)) + sum(
            of_query(each, scope) for each in _conditions(query)
        )

    def of_relation(relation: exp.Expr, scope: Scope) -> int:
        if isinstance(relation, exp.Subquery):
            return of_query(relation.this, scope)
        if not isinstance(relation, exp.Table):
            return 0
        name = _name(relation)
        if name in scope:
            return of_query(*scope[name])
        if name not in views:
            return 1
        if name not in known:
            known[name] = of_query(views[name], {})
        return known[name]

    return of_query(query, {})


def _inside(query: exp.Query, scope: Scope) -> Scope:
    """Return the CTEs that a query sees: each its query, and those that it sees in turn."""
    inside = dict(scope)
    for cte in query.ctes:
        inside[cte.alias] = (cte.this, dict(inside))
    return inside


def _relations(query: exp.Query) -> list[exp.Expr]:
    source = query.find(exp.From)
    first = [source.this] if source is not None and source.parent is query else []
    return [*first, *(join.this for join in query.args.get("joins") or [])]


def _conditions(query: exp.Query) -> list[exp.Query]:
    """Return the queries of EXISTS and IN (...) of a SELECT."""
    found = []
    for node in query.find_all(exp.Exists, exp.In):
        inner = node.this if isinstance(node, exp.Exists) else node.args.get("query")
        if inner is not None and node.find_ancestor(exp.Select) is query:
            found.append(inner)
    return found


def _aggregates(query: exp.Query) -> bool:
    return bool(query.args.get("group")) or any(
        call.find_ancestor(exp.Window) is None
        for selected in query.expressions
        for call in selected.find_all(exp.AggFunc)
    )


def _name(table: exp.Table) -> str:
    return f"{table.db}.{table.name}" if table.db else table.name

"""Rules of RisingWave on a SELECT, checked over compiled SQL without a RisingWave.

A rule takes a syntax tree (those of `TREE`) or tokens (those of risingwave_words.py) and returns
readable violations. docs/engines.md says where the rules come from.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import sqlglot
from sqlglot import Token, exp
from sqlglot.dialects.risingwave import RisingWave
from sqlglot.errors import ParseError

from tests.support.expressions import (
    branches,
    called,
    definition,
    is_jsonb,
    is_kept_sum,
    is_nonzero,
    is_within,
    origins,
    unbounded,
)
from tests.support.risingwave_words import PLAIN, SET_RETURNING, WORDS, words

S = TypeVar("S")
UNFRAMED = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.Lag, exp.Lead)
# Expressions that convert a number to text.
TEXTS = (exp.Cast, exp.Concat, exp.ConcatWs, exp.DPipe)
# Parents of a subquery that is a relation.
RELATIONS = (exp.From, exp.Join, exp.SetOperation, exp.CTE, exp.Subquery)
# sqlglot does not parse these; models that use them are checked by plain rules alone.
KNOWN_FALLBACKS = {"emit", "watermark", "session"}
# Accepted violations, by model and by how they begin, each with its reason.
ACCEPTED: dict[str, dict[str, str]] = {
    "ingest_lag": {
        "wall clock: now": "in WHERE alone, and brokers are asked at the wall's time",
    },
    "traffic_quality": {
        "wall clock: now": "a plain view: computed by a query, not in a stream",
    },
}


@dataclass(frozen=True)
class Model:
    """The SELECT of one model as dbt compiled it; `tree` is None where sqlglot cannot parse it."""

    name: str
    tokens: list[Token]
    tree: exp.Query | None


def read(name: str, sql: str) -> Model:
    """Parse the compiled SQL of a model."""
    log = logging.getLogger("sqlglot")
    log.disabled = True  # it warns of a fallback, which `violations` reports
    try:
        tree: object = sqlglot.parse_one(sql, read="risingwave")
    except ParseError:
        tree = None
    finally:
        log.disabled = False
    return Model(name, RisingWave().tokenize(sql), tree if isinstance(tree, exp.Query) else None)


def violations(model: Model) -> list[str]:
    """Return what RisingWave would refuse in a model, or PostgreSQL raise on, as "rule: what"."""
    accepted = tuple(ACCEPTED.get(model.name, ()))
    return [text for text in raw_violations(model) if not text.startswith(accepted)]


def raw_violations(model: Model) -> list[str]:
    """Return all violations, accepted ones included."""
    found = _apply(WORDS, model.tokens)
    if model.tree is not None:
        return found + _apply(TREE, model.tree)
    found += _apply(PLAIN, model.tokens)
    if not KNOWN_FALLBACKS & set(words(model.tokens)):
        found.append("parsing: sqlglot cannot, so only plain rules were applied")
    return found


def _apply(rules: Mapping[str, Callable[[S], list[str]]], sql: S) -> list[str]:
    return [f"{name}: {text}" for name, rule in rules.items() for text in rule(sql)]


# --- joins -------------------------------------------------------------------------------------


def joins(tree: exp.Query) -> list[str]:
    """Every join has a key: a column of the joined relation equal to a column of another one."""
    found = []
    for join in tree.find_all(exp.Join):
        if join.args.get("kind") == "CROSS":
            found.append(f"cross join: {_sql(join)}")
        elif join.args.get("method"):
            found.append(f"keys not written out: {_sql(join)}")
        elif not join.args.get("using") and not _has_key(join):
            found.append(f"no column = column: {_sql(join)}")
    return found


def _has_key(join: exp.Join) -> bool:
    joined = join.this.alias_or_name
    return any(
        joined in tables and len(tables) == 2 and all(tables)
        for left, right in _equalities(join.args.get("on"))
        if (tables := {left.table, right.table})
    )


def _equalities(condition: exp.Expr | None) -> Iterator[tuple[exp.Column, exp.Column]]:
    """Yield the pairs of columns that a condition holds equal, whatever else it asks."""
    if condition is None:
        return
    condition = condition.unnest()
    if isinstance(condition, exp.And):
        yield from _equalities(condition.left)
        yield from _equalities(condition.right)
    elif isinstance(condition, exp.EQ):
        left, right = condition.left, condition.right
        if isinstance(left, exp.Column) and isinstance(right, exp.Column):
            yield left, right


def subqueries(tree: exp.Query) -> list[str]:
    """No scalar subquery; EXISTS, and an IN that looks outside, are tied to it by a key."""
    found = []
    for node in tree.find_all(exp.Subquery, exp.Exists):
        query = node.this
        if isinstance(node, exp.Exists):
            if not _looks_outside_by_key(query):
                found.append(f"exists without a key: {_sql(node)}")
        elif isinstance(node.parent, exp.In):
            if _outer_columns(query) and not _looks_outside_by_key(query):
                found.append(f"in (…) that looks outside without a key: {_sql(node)}")
        elif not isinstance(node.parent, RELATIONS):
            found.append(f"scalar subquery: {_sql(node)}")
    return found


def _outer_columns(query: exp.Expr) -> list[exp.Column]:
    inner = {"", *(source.alias_or_name for source in query.find_all(exp.Table, exp.Subquery))}
    return [column for column in query.find_all(exp.Column) if column.table not in inner]


def _looks_outside_by_key(query: exp.Expr) -> bool:
    outer = {id(column) for column in _outer_columns(query)}
    where = query.args.get("where")
    return any(
        (id(left) in outer) != (id(right) in outer)
        for left, right in _equalities(where.this if where else None)
    )


# --- windows, aggregates, sets -----------------------------------------------------------------


def windows(tree: exp.Query) -> list[str]:
    """Windows are partitioned, and framed by rows; ranking ones are ordered."""
    return [
        f"{problem}: {_sql(call)}"
        for call in tree.find_all(exp.Window)
        if not isinstance(call.this, exp.Identifier)  # the definition of a named one
        for problem in _window_problems(call)
    ]


def _window_problems(call: exp.Window) -> Iterator[str]:
    window = definition(call)
    order, frame = window.args.get("order"), window.args.get("spec")
    kind = str(frame.args["kind"]).lower() if frame else None
    if isinstance(call.this, exp.Filter):
        yield "filter on a window"
    if isinstance(call.this, exp.IgnoreNulls):
        yield "ignore nulls"
    if not window.args.get("partition_by"):
        yield "no partition by"
    if isinstance(call.this, UNFRAMED) and not order:
        yield "no order by"
    if not isinstance(call.this, UNFRAMED) and not frame:
        yield "no frame"
    if frame and kind == "range" and (not order or len(order.expressions) != 1):
        yield "range without its one order by key"
    if frame and re.search(r"\d *(d|mon|w|y)", _sql(frame), re.IGNORECASE):
        yield "range of days or months, write hours"
    if kind not in (None, "range", "rows"):
        yield f"frame of {kind}"


def aggregates(tree: exp.Query) -> list[str]:
    """Percentiles are grouped and constant, filters plain, and round(x, n) takes a numeric.

    What is cast to numeric is bounded before it is added up, and keys of JSON are not null.
    """
    found = []
    for call in tree.find_all(exp.WithinGroup):
        select = call.find_ancestor(exp.Select)
        if select is None or not select.args.get("group"):
            found.append(f"percentile outside group by: {_sql(call)}")
        if call.this.find(exp.Column):
            found.append(f"percentile that is no constant: {_sql(call)}")
    for condition in tree.find_all(exp.Filter):
        if condition.expression.find(exp.Query, exp.AggFunc):
            found.append(f"filter with a subquery or an aggregate: {_sql(condition)}")
    for spread in tree.find_all(exp.Sub):
        product = spread.left
        of_sums = isinstance(product, exp.Mul) and all(
            isinstance(side.this if isinstance(side, exp.Filter) else side, exp.Sum)
            for side in (product.left, product.right)
        )
        if of_sums and not isinstance(spread.find_ancestor(exp.Case, exp.Query), exp.Case):
            found.append(f"28 digits may not hold it, write spread: {_sql(spread)}")
    for added in tree.find_all(exp.Sum):
        for number in unbounded(added.this):
            found.append(f"28 digits may not hold it, write exact or summable: {_sql(number)}")
    for made in tree.find_all(exp.Func):
        if called(made) == "jsonb_object_agg" and not _is_given(made):
            found.append(f"a null key ends it, write where … is not null: {_sql(made)}")
    for rounded in tree.find_all(exp.Round):
        if rounded.args.get("decimals") and not _is_numeric(rounded.this):
            found.append(f"round(x, n) of no numeric: {_sql(rounded)}")
        if rounded.args.get("decimals") and isinstance(rounded.parent, TEXTS):
            found.append(f"round(x, n) pads no zeros, write with_decimals: {_sql(rounded)}")
    return found


def _is_given(call: exp.Func) -> bool:
    """Whether the first argument of a call is held not null by the WHERE of its SELECT."""
    select = call.find_ancestor(exp.Select)
    where = select.args.get("where") if select else None
    key = call.find(exp.Column)
    return where is not None and any(
        isinstance(test.parent, exp.Not) and test.this == key and test.expression == exp.null()
        for test in where.find_all(exp.Is)
    )


def _is_numeric(node: exp.Expr) -> bool:
    if isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Div)):
        sides = [side for side in (node.left, node.right) if not isinstance(side, exp.Literal)]
        return bool(sides) and all(map(_is_numeric, sides))
    if isinstance(node, (exp.Paren, exp.Nullif)):
        return _is_numeric(node.this)
    return isinstance(node, exp.Cast) and bool(node.is_type("decimal"))


def set_returning(tree: exp.Query) -> list[str]:
    """Functions that return sets are bare in the select list, or in FROM.

    Those that do run side by side; one inside an expression multiplies the rows of the others.
    """
    found = []
    for call in tree.find_all(exp.Func):
        if called(call) in SET_RETURNING:
            item = call.parent if isinstance(call.parent, exp.Alias) else call
            is_bare = isinstance(item.parent, exp.Select) and item.arg_key == "expressions"
            if not is_bare and not isinstance(call.find_ancestor(exp.From, exp.Query), exp.From):
                found.append(f"{called(call)}() is not bare: {_sql(item)}")
    return found


def _sql(node: exp.Expr) -> str:
    return node.sql("risingwave")


# --- keys, order, division ---------------------------------------------------------------------


def jsonb_keys(tree: exp.Query) -> list[str]:
    """JSON is no key of GROUP BY, DISTINCT, PARTITION BY or a join, and in no plain UNION."""
    return [f"{where}: {_sql(key)}" for where, key in _keys(tree) if is_jsonb(key)]


def _keys(tree: exp.Query) -> Iterator[tuple[str, exp.Expr]]:
    for select in tree.find_all(exp.Select):
        group, distinct = select.args.get("group"), select.args.get("distinct")
        for key in _grouped(group) if group else []:
            yield "group by", _output(select, key)
        on = distinct.args.get("on") if distinct else None
        for key in on.expressions if on else select.selects if distinct else []:
            yield "distinct", _output(select, key)
    for window in tree.find_all(exp.Window):
        yield from (("partition by", key) for key in window.args.get("partition_by") or [])
    for distinct in tree.find_all(exp.Distinct):
        if isinstance(distinct.parent, exp.AggFunc):
            yield from (("distinct", key) for key in distinct.expressions)
    for join in tree.find_all(exp.Join):
        for pair in _equalities(join.args.get("on")):
            yield from (("join", key) for key in pair)
        yield from (("join", exp.column(key.name)) for key in join.args.get("using") or [])
    for union in tree.find_all(exp.SetOperation):
        if union.args.get("distinct"):
            yield from (("union", key) for side in branches(union) for key in side.selects)


def _grouped(group: exp.Expr) -> Iterator[exp.Expr]:
    """The keys of GROUP BY, those inside grouping sets, rollup and cube too."""
    for key in group.iter_expressions():
        if isinstance(key, (exp.Cube, exp.GroupingSets, exp.Rollup, exp.Tuple)):
            yield from _grouped(key)
        else:
            yield key.unnest()


def _output(select: exp.Select, key: exp.Expr) -> exp.Expr:
    """The expression that a key means: `2` and an alias name a column of the result."""
    if isinstance(key, exp.Literal) and key.is_int:
        return select.selects[int(key.this) - 1]
    aliases = {out.alias: out for out in select.selects if isinstance(out, exp.Alias)}
    if isinstance(key, exp.Column) and not key.table and not origins(key):
        return aliases.get(key.name, key)
    return key


def ordering(tree: exp.Query) -> list[str]:
    """A view has no ORDER BY; one of DISTINCT ON begins with its keys."""
    found = []
    on = None
    for select in [*tree.find_all(exp.Select)][::-1]:
        distinct, order = select.args.get("distinct"), select.args.get("order")
        on = distinct.args.get("on") if distinct else None
        keys = [_sql(key) for key in on.expressions] if on else []
        leading = [_sql(key.this) for key in order.expressions] if order else []
        if leading[: len(keys)] != keys:
            found.append(f"distinct on ({', '.join(keys)}) is not ordered by them first")
    if tree.args.get("order") and not tree.args.get("limit") and not on:
        found.append("order by without limit")
    return found


def division(tree: exp.Query) -> list[str]:
    """Denominators are nullif(…, 0), or provably not zero: constants, counts, what a case asks for.

    On RisingWave an error in an expression becomes null, PostgreSQL raises: this rule is for it.
    """
    return [
        f"by what may be zero: {_sql(node.expression)}"
        for node in tree.find_all(exp.Div, exp.Mod)
        if not is_nonzero(node.expression)
    ]


def exponents(tree: exp.Query) -> list[str]:
    """What is raised is bounded: e to what the macro exp_of allows, and roots.

    A query raises where a power overflows, or underflows to 0; a materialized view has null there.
    So it does for roots of less than 0, which a sum of squares may be once rows were taken out of
    it: each step rounds to 28 digits.
    """
    found = [
        f"of e without bounds, write exp_of: {_sql(call)}"
        for call in tree.find_all(exp.Exp)
        if not is_within(call.this, -745, 709)
    ]
    found += [
        f"a root of a sum that is kept, write greatest(…, 0): {_sql(call)}"
        for call in tree.find_all(exp.Sqrt)
        if is_kept_sum(call.this)
    ]
    return found + [
        f"a power that is no root, write a product or exp_of: {_sql(call)}"
        for call in tree.find_all(exp.Pow)
        if not is_within(call.expression, math.ulp(0), 1)
    ]


TREE: dict[str, Callable[[exp.Query], list[str]]] = {
    "joins": joins,
    "subqueries": subqueries,
    "windows": windows,
    "aggregates": aggregates,
    "set returning": set_returning,
    "jsonb keys": jsonb_keys,
    "ordering": ordering,
    "division": division,
    "exponents": exponents,
}

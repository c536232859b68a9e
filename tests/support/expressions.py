"""Properties of expressions in a syntax tree: where a column comes from, and its bounds."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator

from sqlglot import exp

from tests.support.risingwave_words import JSONB, JSONB_CALLS

# Functions that sqlglot names differently.
SQLGLOT_NAMES = {
    "explode": "unnest",
    "exploding_generate_series": "generate_series",
    "j_s_o_n_b_object_agg": "jsonb_object_agg",
}


def origins(column: exp.Column) -> list[exp.Expr]:
    """The expressions behind a column, in the subquery or CTE it comes from; none for a table."""
    select = column.find_ancestor(exp.Select)
    return _outputs(_relations(select, column.table), column.name) if select else []


def _relations(select: exp.Select, alias: str) -> list[exp.Expr]:
    clauses = [select.args.get("from_"), *select.args.get("joins", [])]
    relations = [clause.this for clause in clauses if clause]
    return [relation for relation in relations if alias in ("", relation.alias_or_name)]


def _outputs(relations: list[exp.Expr], name: str) -> list[exp.Expr]:
    found: list[exp.Expr] = []
    for relation in relations:
        for branch in branches(_body(relation)):
            named = [out.unalias() for out in branch.selects if out.alias_or_name == name]
            found += named or (_outputs(_relations(branch, ""), name) if branch.is_star else [])
    return found


def _body(source: exp.Expr) -> exp.Expr | None:
    """The query behind a relation: of a subquery, or of a CTE in sight."""
    if isinstance(source, exp.Subquery):
        return source
    query = source.find_ancestor(exp.Query)
    while query is not None and isinstance(source, exp.Table) and not source.db:
        for cte in query.ctes:
            if cte.alias == source.name:
                body: exp.Expr = cte.this
                return body
        query = query.find_ancestor(exp.Query)
    return None


def branches(query: exp.Expr | None) -> list[exp.Select]:
    """The SELECTs that a query unites; none where there is no query."""
    if isinstance(query, exp.Subquery):
        return branches(query.this)
    if isinstance(query, exp.SetOperation):
        return branches(query.left) + branches(query.right)
    return [query] if isinstance(query, exp.Select) else []


def called(call: exp.Func) -> str:
    """The name of a function, as it was written."""
    name = call.name if isinstance(call, exp.Anonymous) else call.sql_name()
    return SQLGLOT_NAMES.get(name.lower(), name.lower())


def definition(call: exp.Window) -> exp.Window:
    """The window that a call names or spells out."""
    select = call.find_ancestor(exp.Select)
    named = {w.this.name: w for w in (select.args.get("windows") if select else None) or []}
    alias = call.args.get("alias")
    return named.get(alias.name, call) if alias else call


def is_jsonb(node: exp.Expr) -> bool:
    """Whether an expression is JSON, as far as its own SELECTs tell."""
    if isinstance(node, (exp.Alias, exp.Paren)):
        return is_jsonb(node.this)
    if isinstance(node, exp.Column):
        made_of = origins(node)
        return any(map(is_jsonb, made_of)) if made_of else node.name in JSONB
    if isinstance(node, exp.Cast):
        return bool(node.is_type("jsonb"))
    if isinstance(node, exp.Coalesce):
        return any(map(is_jsonb, [node.this, *node.expressions]))
    if isinstance(node, exp.Case):
        results = [branch.args["true"] for branch in node.args["ifs"]]
        return any(map(is_jsonb, [*results, *filter(None, [node.args.get("default")])]))
    is_call = isinstance(node, exp.Func) and called(node) in JSONB_CALLS
    return is_call or isinstance(node, (exp.JSONExtract, exp.JSONBExtract))


def is_nonzero(node: exp.Expr) -> bool:
    """Whether a number is null or other than zero, as far as its own SELECTs tell."""
    if isinstance(node, (exp.Cast, exp.Neg, exp.Paren)):
        return is_nonzero(node.this)
    if isinstance(node, exp.Nullif):
        return _constant(node.expression) == 0
    if isinstance(node, exp.Mul):
        return is_nonzero(node.left) and is_nonzero(node.right)
    if isinstance(node, exp.Column) and (made_of := origins(node)):
        return all(map(is_nonzero, made_of)) or _at_least(node) > 0
    constant = _constant(node)
    return _at_least(node) > 0 if constant is None else constant != 0


def unbounded(node: exp.Expr, seen: set[int] | None = None) -> Iterator[exp.Cast]:
    """Yield the casts of a column to numeric that a number is made from, whatever their size.

    What a case takes only where the abs(…) of something is at most a constant is bounded.
    """
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    parts = [*node.iter_expressions()]
    if isinstance(node, exp.Column):
        parts = origins(node)
    elif isinstance(node, exp.Case):
        parts = [arm.args["true"] for arm in node.args["ifs"] if not _is_bound(arm.this)]
        parts += filter(None, [node.args.get("default")])
    elif (
        isinstance(node, exp.Cast)
        and node.is_type("decimal")
        and isinstance(node.this.unnest(), exp.Column)
    ):
        yield node
    for part in parts:
        yield from unbounded(part, seen)


def is_kept_sum(node: exp.Expr) -> bool:
    """Whether a number is a sum of a table's column, or such a sum divided."""
    if isinstance(node, (exp.Cast, exp.Div, exp.Paren)):
        return is_kept_sum(node.this)
    if isinstance(node, exp.Sum):
        return isinstance(node.this, exp.Column) and not any(_made_of(node.this))
    return isinstance(node, exp.Column) and any(map(is_kept_sum, origins(node)))


def _made_of(column: exp.Column) -> Iterator[exp.Expr]:
    """Yield what a column is made from, where it is not taken from a table as it is."""
    for origin in origins(column):
        if isinstance(origin, exp.Column):
            yield from _made_of(origin)
        elif not isinstance(origin, exp.Cast):
            yield origin


def _is_bound(condition: exp.Expr) -> bool:
    return (
        isinstance(condition, exp.LTE)
        and isinstance(condition.left, exp.Abs)
        and _constant(condition.right) is not None
    )


def is_within(node: exp.Expr, low: float, high: float) -> bool:
    """Whether a number is a constant in [low, high], or held there by least(greatest(…))."""
    if (constant := _constant(node)) is not None:
        return low <= constant <= high
    upper = [_constant(each) for each in [node.this, *node.expressions]]
    if not isinstance(node, exp.Least) or not isinstance(node.this, exp.Greatest):
        return False
    lower = [_constant(each) for each in [node.this.this, *node.this.expressions]]
    return any(x is not None and x <= high for x in upper) and any(
        x is not None and x >= low for x in lower
    )


def _constant(node: exp.Expr) -> float | None:
    """The value of an expression of numbers; None where it holds anything else."""
    if isinstance(node, (exp.Cast, exp.Paren)):
        return _constant(node.this)
    if isinstance(node, exp.Literal):
        return float(node.this) if node.is_number else None
    arguments = [_constant(child) for child in node.iter_expressions()]
    compute = COMPUTE.get(type(node))
    return None if compute is None or None in arguments else compute(*arguments)


COMPUTE: dict[type[exp.Expr], Callable[..., float]] = {
    exp.Add: operator.add,
    exp.Div: operator.truediv,
    exp.Exp: math.exp,
    exp.Ln: math.log,
    exp.Mul: operator.mul,
    exp.Neg: operator.neg,
    exp.Pow: math.pow,
    exp.Sqrt: math.sqrt,
    exp.Sub: operator.sub,
}


def _at_least(node: exp.Expr) -> float:
    """A bound that an expression is not below, where it is not null; -inf if none is known."""
    return max(_asked_for(node), _bound(node))


def _bound(node: exp.Expr) -> float:
    if (constant := _constant(node)) is not None:
        return constant
    if isinstance(node, (exp.Alias, exp.Cast, exp.Filter, exp.Max, exp.Min, exp.Nullif, exp.Paren)):
        return _at_least(node.this)
    if isinstance(node, (exp.Abs, exp.Exp, exp.Sqrt)):
        return 0
    if isinstance(node, exp.Count):
        return 1 if _counts_a_group(node) else 0
    if isinstance(node, exp.Add):
        return _at_least(node.left) + _at_least(node.right)
    if isinstance(node, exp.Mul):
        sides = _at_least(node.left), _at_least(node.right)
        is_square = node.left == node.right
        return sides[0] * sides[1] if min(sides) >= 0 else 0 if is_square else -math.inf
    if isinstance(node, exp.Greatest):
        return max(map(_at_least, [node.this, *node.expressions]))
    if isinstance(node, exp.Coalesce):
        return min(map(_at_least, [node.this, *node.expressions]))
    if isinstance(node, exp.Case):
        default = node.args.get("default")
        results = [branch.args["true"] for branch in node.args["ifs"]]
        return min(map(_at_least, [*results, default] if default else results))
    if isinstance(node, exp.Column):
        return min(map(_at_least, origins(node)), default=-math.inf)
    if isinstance(node, exp.Sum):
        bound = _at_least(node.this)
        return bound if bound >= 0 else -math.inf
    if isinstance(node, exp.Window):
        frame = definition(node).args.get("spec")
        counts = isinstance(node.this, exp.Count) and isinstance(node.this.this, exp.Star)
        return 1 if counts and frame and _holds_its_row(frame) else _at_least(node.this)
    return -math.inf


def _counts_a_group(count: exp.Count) -> bool:
    """Whether it is count(*) of a group, which has a row; () of grouping sets may have none."""
    select = count.find_ancestor(exp.Select)
    group = select.args.get("group") if select else None
    sets = (exp.Cube, exp.GroupingSets, exp.Rollup, exp.Tuple)
    grouped = group is not None and not any(isinstance(key, sets) for key in group.expressions)
    alone = not isinstance(count.parent, (exp.Filter, exp.Window))
    return alone and grouped and isinstance(count.this, exp.Star)


def _holds_its_row(frame: exp.Expr) -> bool:
    start, end = (str(frame.args.get(side)).lower() for side in ("start_side", "end_side"))
    return start != "following" and end != "preceding"


def _asked_for(node: exp.Expr) -> float:
    """The bound that the CASE around an expression, or the WHERE of its SELECT, gives it."""
    bounds = [-math.inf]
    inner: exp.Expr = node
    while (outer := inner.parent) is not None and not isinstance(inner, exp.Select):
        if isinstance(outer, exp.If) and outer.args.get("true") is inner:
            bounds += _bounds(outer.this, node)
        if isinstance(outer, exp.Select) and inner.arg_key == "expressions":
            where = outer.args.get("where")
            bounds += _bounds(where.this, node) if where else []
        inner = outer
    return max(bounds)


def _bounds(condition: exp.Expr, node: exp.Expr) -> Iterator[float]:
    condition = condition.unnest()
    if isinstance(condition, exp.And):
        yield from _bounds(condition.left, node)
        yield from _bounds(condition.right, node)
    elif isinstance(condition, (exp.GT, exp.GTE)) and condition.left.unnest() == node:
        bound = _constant(condition.right)
        if bound is not None:
            yield math.nextafter(bound, math.inf) if isinstance(condition, exp.GT) else bound
    elif isinstance(condition, exp.Between) and condition.this.unnest() == node:
        yield _at_least(condition.args["low"])

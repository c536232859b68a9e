"""The types of the branches of a UNION, as PostgreSQL infers them.

RisingWave converts the types of two SELECTs that stand side by side, and of nothing else: from the
third branch on, and in parentheses, the columns must have the same types.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import sqlglot
from sqlglot import exp

from tests.support.expressions import branches


def differing(connection: psycopg.Connection[Any], query: str) -> list[str]:
    """Return the columns whose type in a branch differs from the first branch, each once."""
    tree = sqlglot.parse_one(query, read="risingwave")
    found = []
    for union in tree.find_all(exp.SetOperation):
        if isinstance(union.parent, exp.SetOperation) or converted(union):
            continue
        first, *others = [described(connection, branch) for branch in branches(union)]
        for place, other in enumerate(others, start=2):
            found += [
                f"branch {place}: {name} is {kind}, not {wanted}"
                for (name, wanted), (_, kind) in zip(first, other, strict=True)
                if kind != wanted
            ]
    return found


def converted(union: exp.SetOperation) -> bool:
    """Whether its branches are two plain SELECTs, whose types RisingWave unifies."""
    return isinstance(union.left, exp.Select) and isinstance(union.right, exp.Select)


def described(connection: psycopg.Connection[Any], branch: exp.Select) -> list[tuple[str, str]]:
    """Names and types of the columns of a SELECT, with the CTEs that it sees."""
    selects = ", ".join(f"{cte.alias} as ({_sql(cte.this)})" for cte in _in_sight(branch))
    text = f"with {selects} select * from ({_sql(branch)}) as branch" if selects else _sql(branch)
    prepared = connection.pgconn.prepare(b"", text.encode())
    if prepared.error_message:
        raise ValueError(f"{prepared.error_message.decode()}: {text}")
    result = connection.pgconn.describe_prepared(b"")
    kinds = [result.ftype(column) for column in range(result.nfields)]
    names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
    with connection.cursor() as cursor:
        rows = cursor.execute("select format_type(k, null) from unnest(%s::oid[]) as k", [kinds])
        # One type has two names.
        types = [row[0].replace("character varying", "text") for row in rows]
    return list(zip(names, types, strict=True))


def _in_sight(branch: exp.Expr) -> list[exp.CTE]:
    """The CTEs before a SELECT, those of the queries around it first."""
    return [*_around(branch)]


def _around(node: exp.Expr) -> Iterator[exp.CTE]:
    inside = node
    outer = []
    while (parent := inside.parent) is not None:
        if isinstance(parent, exp.With):
            ctes = parent.expressions
            outer.append(ctes[: next(i for i, cte in enumerate(ctes) if cte is inside)])
        elif isinstance(parent, exp.Query) and parent.args.get("with_") not in (None, inside):
            outer.append(parent.args["with_"].expressions)
        inside = parent
    for ctes in reversed(outer):
        yield from ctes


def _sql(node: exp.Expr) -> str:
    return node.sql("risingwave")

"""Branches of unions have the types that RisingWave asks for."""

from __future__ import annotations

import pytest

from tests.support import risingwave_sql_on_postgres as on_postgres
from tests.support import risingwave_views as views
from tests.support.risingwave_ddl import Statement
from tests.support.risingwave_sql_database import SqlStandIn
from tests.support.risingwave_unions import differing


def test_every_union_of_the_models(
    sql_standin: SqlStandIn, risingwave_views: list[views.View]
) -> None:
    views.create(sql_standin.connection, risingwave_views)
    found = [
        f"{view.name}: {problem}"
        for view in risingwave_views
        for problem in differing(sql_standin.connection, view.select.replace('"dev".', ""))
    ]
    assert not found, "\n".join(found)


def test_every_union_of_the_ingest(sql_standin: SqlStandIn) -> None:
    found = [
        f"{statement.name}: {problem}"
        for file in on_postgres.FILES
        for text in on_postgres.statements(file)
        if (statement := Statement(text)).select
        for problem in differing(sql_standin.connection, on_postgres.translated(statement.select))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("select 1 as x union all select 2 union all select 3::bigint", ["x"]),
        ("select 1 as x union all select 2::bigint union all select 3::bigint", ["x", "x"]),
        ("select 'a' as x, 1 as y union all select 'b', 2 union all select 'c', null", ["y"]),
        ("with t as (select 0.5 as z) select z, 1 as x from t union all (select 1, 2)", ["z"]),
        (
            "with u as (with t as (select now() as at) select at from t union select at from t "
            "union select at::date from t) select at from u",
            ["at"],
        ),
    ],
)
def test_a_branch_of_another_type_is_found(
    sql_standin: SqlStandIn, query: str, columns: list[str]
) -> None:
    found = differing(sql_standin.connection, query)
    assert [problem.split()[2] for problem in found] == columns


@pytest.mark.parametrize(
    "query",
    [
        "select 1 as x union all select 2::bigint",
        "select 1 as x, 'a' as y union all select 2, 'b' union all select 3, null",
        "select x from (select 1 as x union all select null) as t union all select 1",
    ],
)
def test_what_it_converts_passes(sql_standin: SqlStandIn, query: str) -> None:
    assert differing(sql_standin.connection, query) == []

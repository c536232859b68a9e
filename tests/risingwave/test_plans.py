"""The cost of the views on RisingWave: actors that run all the time, and scans of a query."""

from __future__ import annotations

from typing import cast

import pytest
import sqlglot
from sqlglot import exp

from tests.support.risingwave_ddl import Statement
from tests.support.risingwave_plans import Views, operators, scans
from tests.support.risingwave_sql_on_postgres import AFTER, FILES, statements
from tests.support.risingwave_views import View

# A cluster warns above 100 actors a parallelism and makes no more views above 400.
ACTORS = 302
# A query with more than 1,000 scans at a time may fail; plain views are planned in each query.
SCANS = 400
# Actors of a table: the table itself, and the one that receives the rows.
TABLE = 2


def parsed(sql: str) -> exp.Query:
    return cast(exp.Query, sqlglot.parse_one(sql, read="risingwave"))


@pytest.fixture(scope="module")
def plain(risingwave_views: list[View]) -> Views:
    """The plain views, by name."""
    found = {
        f"{view.schema}.{view.name}": parsed(view.select)
        for view in risingwave_views
        if not view.stored
    }
    for statement in made():
        if statement.kind == "view":
            found[statement.name] = parsed(statement.select)
    return found


def made() -> list[Statement]:
    """The statements of sql/risingwave."""
    return [Statement(text) for file in [*FILES, *AFTER] for text in statements(file)]


def actors_of(statement: Statement, plain: Views) -> int:
    """Return about how many actors a statement of sql/risingwave starts."""
    if statement.kind in ("sink", "materialized view"):
        return operators(parsed(statement.select), plain) + (statement.kind == "sink")
    return {"table": TABLE, "source": 1}.get(statement.kind, 0)


def test_all_that_runs_stays_under_the_limits_of_a_cluster(
    risingwave_views: list[View], plain: Views
) -> None:
    actors = {f"sql {each.name}": actors_of(each, plain) for each in made() if each.name}
    for view in risingwave_views:
        if view.stored:
            actors[f"{view.schema}.{view.name}"] = operators(parsed(view.select), plain)
    assert {name: number for name, number in actors.items() if number > 20} == {}
    assert sum(actors.values()) < ACTORS, actors


def test_every_question_stays_answerable(plain: Views) -> None:
    most = {name: scans(query, plain) for name, query in plain.items()}
    assert {name: number for name, number in most.items() if number > SCANS} == {}


def test_an_operator_is_counted_once_and_a_scan_as_often_as_it_is_named() -> None:
    twice = parsed(
        "with sums as (select a, sum(b) as b from s.t inner join s.u using (a) group by a) "
        "select * from sums union all select * from sums where exists (select 1 from s.v)"
    )
    # Scans of t, u and v, a join, an aggregate, a union, a semi-join.
    assert operators(twice, {}) == 7
    assert scans(twice, {}) == 5
    plain = {"s.u": parsed("select distinct a from s.w inner join s.x using (a)")}
    assert operators(twice, plain) == 7 - 1 + 4
    assert scans(twice, plain) == 5 + 2


def test_windows_of_one_partition_are_one_operator() -> None:
    over = parsed(
        "select lag(b) over (partition by a order by b), sum(b) over (partition by a order by c),"
        " sum(b) over (partition by b order by a) from s.t"
    )
    assert operators(over, {}) == 3

"""Deployments by dbt's RisingWave adapter, on the SQL stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.deploy import dbt_environment
from headrace.engine import Engine
from headrace.settings import Settings, project_path
from tests.support.risingwave_sql_database import SqlStandIn
from tests.support.risingwave_views import marts

# The part of RisingWave's catalogue that the adapter and our macros query.
CATALOGUE = """
create schema rw_catalog;
create view rw_catalog.rw_schemas as select oid::bigint as id, nspname as name from pg_namespace;
create view rw_catalog.rw_relations as
select
    oid::bigint as id, relname as name, relnamespace::bigint as schema_id,
    case relkind when 'm' then 'materialized view' when 'v' then 'view' else 'table' end
        as relation_type
from pg_class where relkind in ('m', 'v', 'r');
"""
Dbt = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def dbt(sql_standin: SqlStandIn, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    """Run dbt on the stand-in as if it were RisingWave."""
    sql_standin.connection.execute(CATALOGUE)
    name = sql_standin.connection.info.dbname
    sql_standin.connection.execute(
        f"alter database {name} set search_path = public, rw_catalog".encode()
    )
    home = tmp_path_factory.mktemp("deploy")
    environment = dbt_environment(Engine(sql_standin.dsn, Settings(home=home)))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.support.risingwave_dbt_on_postgres", *arguments],
            env={
                **os.environ,
                **environment,
                "HEADRACE_PGTARGET": "risingwave",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            cwd=project_path("dbt_project"),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def made(sql_standin: SqlStandIn) -> dict[str, int]:
    """The oid of each view: a view that was recreated has another one."""
    return {
        f"{schema}.{name}": number
        for schema, name, number in sql_standin.connection.execute(
            "select home.name, made.name, made.id "
            "from rw_catalog.rw_relations as made "
            "inner join rw_catalog.rw_schemas as home on made.schema_id = home.id "
            "where home.name in ('headrace', 'panes', 'staging')"
        )
    }


def test_a_project_is_deployed_and_deployed_again(dbt: Dbt, sql_standin: SqlStandIn) -> None:
    first = dbt("run")
    assert first.returncode == 0, first.stdout[-3000:]
    views = made(sql_standin)
    assert {f"headrace.{mart}" for mart in marts()} <= set(views)
    assert not [name for name in views if name.startswith("staging")]
    plain = sql_standin.connection.execute(
        "select name from rw_catalog.rw_relations where relation_type = 'view'"
    )
    assert {"labeled_examples", "user_features"} <= {row[0] for row in plain}

    assert dbt("run").returncode == 0
    assert made(sql_standin) == views

    some = dbt("run", "--full-refresh", "--select", "model_clock")
    assert some.returncode != 0
    assert "select all of them" in some.stdout
    assert made(sql_standin) == views

    # What is no part of the project any more goes, too.
    sql_standin.connection.execute(
        "create materialized view panes.old as select * from headrace.model_clock"
    )
    again = dbt("run", "--full-refresh")
    assert again.returncode == 0, again.stdout[-3000:]
    fresh = made(sql_standin)
    assert fresh.keys() == views.keys()
    assert not set(fresh.values()) & set(views.values())

    # A view of a user on top of a mart is never dropped.
    sql_standin.connection.execute("create view public.theirs as select * from headrace.alerts")
    refused = dbt("run", "--full-refresh")
    assert refused.returncode != 0
    assert "theirs" in refused.stdout
    sql_standin.connection.execute("drop view public.theirs")
    assert dbt("run", "--full-refresh").returncode == 0
    assert made(sql_standin).keys() == views.keys()

"""Views that users made on top of marts, after releases that change these marts."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.deploy import migrate
from headrace.engine import Engine
from headrace.operate.doctor.examine import examine

# What a mart selects, before and after a release: some of these columns, in some order.
COLUMNS = {"a": "1", "b": "'x'::text", "c": "2.5::double precision", "n": "now()"}


@pytest.fixture
def analyst(engine: Engine) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A session of a role of the user's own, which makes the views."""
    with engine.connect() as connection:
        connection.execute("create role analyst login")
        connection.execute("create schema sales authorization analyst")
        connection.execute("grant usage on schema headrace to analyst")
    try:
        with psycopg.connect(engine.dsn, autocommit=True) as connection:
            connection.execute("set role analyst")
            yield connection
    finally:
        with engine.connect() as connection:
            connection.execute("drop owned by analyst cascade")
            connection.execute("drop role analyst")


def release(engine: Engine, *columns: str, gone: bool = False) -> list[tuple[str, str]]:
    """Deploy the mart `made` with these columns, or without it; return what is left behind."""
    names = [f"{row['schemaname']}.{row['viewname']}" for row in engine.rows(_MARTS)]
    with engine.connect() as connection:
        if gone:
            names.remove("headrace.made")
        else:
            body = "select " + ", ".join(f"{COLUMNS[name]} as {name}" for name in columns)
            connection.execute("select control.replace_view('headrace.made', %s)", [body])
            names.append("headrace.made")
        connection.execute("select control.retire(%s)", [names])
        return engine.dialect.left_behind(connection, retry=True)


_MARTS = "select schemaname, viewname from pg_views where schemaname = 'headrace'"


def test_a_view_follows_its_mart_or_is_named(
    engine: Engine,
    analyst: psycopg.Connection[tuple[object, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    release(engine, "a", "b")
    with engine.connect() as connection:
        connection.execute("grant select on headrace.made to analyst")
    analyst.execute("create view sales.of_all as select * from headrace.made")
    analyst.execute("create view sales.of_b as select b from headrace.made")
    analyst.execute("create materialized view sales.stored as select a from headrace.made")
    (stored,) = release(engine, "c", "b", "a")
    assert stored[0] == "sales.stored reads the headrace.made of an earlier version"
    assert stored[1] == "a materialized view has to be made again"
    analyst.execute("drop materialized view sales.stored")
    assert release(engine, "c", "b", "a") == []
    assert analyst.execute("select * from sales.of_all").fetchall() == [(1, "x")]

    # Without `a` one of them does not fit, and works on; it is its owner's, and so is the remedy.
    ((what, why),) = release(engine, "n", "b")
    assert what == "sales.of_all reads the headrace.made of an earlier version"
    assert why == 'column "a" does not exist'
    (found,) = [each for each in examine(engine.settings) if each.level != "ok"]
    assert found.level == "warning" and found.says == f"view {what}: {why}"
    migrate(engine)
    (said,) = [record.getMessage() for record in caplog.records if record.name == "headrace.deploy"]
    assert said == f"view {what}: {why}; to do: replace or drop it, then headrace migrate"
    assert analyst.execute("select * from sales.of_all, sales.of_b").fetchall() == [(1, "x", "x")]
    analyst.execute("drop view sales.of_all")
    analyst.execute("create view sales.of_all as select b from headrace.made")
    assert release(engine, "n", "b") == []
    assert stale(engine) == []

    # A mart that is gone.
    left = release(engine, gone=True)
    assert [why for _, why in left] == ["this version does not have it"] * 2
    assert not engine.has("headrace.made")
    analyst.execute("drop view sales.of_all, sales.of_b")
    with engine.connect() as connection:
        assert engine.dialect.left_behind(connection, retry=True) == []
    assert stale(engine) == []


def stale(engine: Engine) -> list[dict[str, object]]:
    return engine.rows("select * from control.stale_relations()")


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    releases=st.lists(
        st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, unique=True), min_size=2, max_size=5
    )
)
def test_whatever_releases_do(engine: Engine, releases: list[list[str]]) -> None:
    """A view of a column reads the mart as it is whenever that has the column, else it is named."""
    column = releases[0][0]
    release(engine, *releases[0])
    with engine.connect() as connection:
        connection.execute(f"create view public.mine as select {column} as it from headrace.made")
        connection.execute("create view public.more as select it from public.mine")
        try:
            for columns in releases[1:]:
                left = release(engine, *columns)
                assert len(left) == (column not in columns)
                assert len(stale(engine)) == len(left)
                assert connection.execute("select it from public.more").fetchone()
        finally:
            connection.execute("drop view public.mine cascade")
            release(engine, gone=True)


def test_the_reader_may_read_what_users_let_it(
    engine: Engine, analyst: psycopg.Connection[tuple[object, ...]]
) -> None:
    with engine.connect() as connection:
        connection.execute("grant select on headrace.alerts to analyst")
    analyst.execute("create view sales.mine as select * from headrace.alerts")
    analyst.execute("grant usage on schema sales to headrace_reader")
    analyst.execute("grant select on sales.mine to headrace_reader")
    assert {each.level for each in examine(engine.settings)} == {"ok"}


def test_names_need_no_schema(engine: Engine) -> None:
    with psycopg.connect(engine.dsn, autocommit=True) as connection:
        connection.execute("select * from model_performance")
    migrate(engine)

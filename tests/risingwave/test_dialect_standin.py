"""The stand-in of the dialect (support/standin.py): it refuses what RisingWave would refuse, and
commands run on it.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from headrace.cli import main
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from tests.support.standin import standing_in, violations


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("insert into t (a) values (1) on conflict (a) do nothing", "on conflict"),
        ("insert into t (a) values (1) returning a", "returning"),
        ("create temporary table t (a int)", "temporary"),
        ("copy t (a) from stdin", "copy"),
        ("listen something", "listen"),
        ("select pg_advisory_lock(1)", "pg_advisory_lock()"),
        ("select set_config('a', 'b', true)", "set_config()"),
        ("select to_regclass('a.b')", "to_regclass()"),
        ("select * from a left join lateral (select 1) as b on true", "lateral"),
        ("select * from jsonb_to_recordset('[]') as t (a int)", "jsonb_to_recordset()"),
        ("update t set a = clock_timestamp()", "clock_timestamp"),
        ("select 'a'::regclass", "::regclass"),
        ("select f(a) as g from t", "f()"),
        ("rollback", "rollback"),
        ("select a from t where at > '-infinity'::timestamptz", "'-infinity'"),
        ("select 'Infinity'::double precision", "'Infinity'"),
        ("select a from t limit $1", "limit $"),
        ("select a from t order by a offset '5'", "offset 5"),
        ("select * from unnest('{a,b}'::text[]) as t", "'{a,b}' as an array"),
        ("set search_path to headrace", "search_path"),
        ("set statement_timeout = '5s'", "statement_timeout"),
        ("declare c cursor for select 1", "declare"),
    ],
)
def test_what_risingwave_lacks_is_found(statement: str, said: str) -> None:
    assert any(problem.startswith(said) for problem in violations(statement)), violations(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "flush",
        "start transaction read only",
        "insert into control.t (a, b)\nvalues ('on conflict', E'returning'), (now(), null)",
        "select a from t order by a limit 5 offset 10",
        "select array['a', 'b']::varchar[], payload #>> '{}'::varchar[], '{}'::jsonb",
        "with x as (select n from (values (1::bigint)) as given (n)) select n from x",
    ],
)
def test_what_it_has_is_let_through(statement: str) -> None:
    assert violations(statement) == []


def many(connection: Connection) -> None:
    connection.cursor().executemany("insert into t values (%s)", [[1]])


def named(connection: Connection) -> None:
    with connection.cursor(name="c") as cursor:
        cursor.execute("select 1")


def piped(connection: Connection) -> None:
    with connection.pipeline():
        connection.execute("select 1")


def copied(connection: Connection) -> None:
    with connection.cursor().copy("copy t from stdin"):
        pass


def listening(connection: Connection) -> None:
    list(connection.notifies(timeout=0))


@pytest.mark.parametrize(
    ("misused", "said"),
    [
        (many, "executemany is a pipeline"),
        (named, "a named cursor"),
        (piped, "a pipeline"),
        (copied, "copy"),
        (listening, "notifies"),
        (lambda it: it.execute("select 1 = any(%s)", [[1, 2]]), "an array as a parameter"),
        (lambda it: it.execute("select %(a)s", {"a": -math.inf}), "'-Infinity'"),
    ],
)
def test_what_psycopg_may_not_do_there_is_found(
    engine: Engine, misused: Callable[[Connection], object], said: str
) -> None:
    with (
        pytest.raises(AssertionError, match=re.escape(said)),
        standing_in(engine) as opened,
        opened.connect() as connection,
        contextlib.suppress(psycopg.Error),
    ):
        connection.execute("create table t (a int)")
        misused(connection)


def test_an_option_that_is_ignored_is_found(engine: Engine) -> None:
    with (
        pytest.raises(AssertionError, match="search_path as an option"),
        standing_in(engine) as opened,
        opened.connect(options="-c search_path=headrace") as connection,
    ):
        connection.execute("select 1")


def test_results_in_binary_are_refused_by_the_cursor_itself(standin: Engine) -> None:
    with standin.connect() as connection, pytest.raises(psycopg.NotSupportedError):
        connection.execute("select 1", binary=True)


def test_the_extra_brings_what_sqlalchemy_risingwave_does_not_declare() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    names = [
        re.match(r"[\w-]+", each)
        for each in project["project"]["optional-dependencies"]["risingwave"]
    ]
    assert {"sqlalchemy-risingwave", "psycopg2-binary"} <= {each[0] for each in names if each}


@pytest.mark.usefixtures("commanded")
def test_commands_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "churn", "min_new_labels=7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["own"] == {"min_new_labels": "7"}
    assert main(["versions", "churn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["status"]) == 0
    assert capsys.readouterr().out.startswith("risingwave runs\n")
    assert main(["trainer", "--once"]) == 0
    assert "nothing is due" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["ingest", "replay"])
@pytest.mark.usefixtures("commanded")
def test_what_reads_topics_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 1
    error = capsys.readouterr().err
    assert "reads Kafka's topics by itself" in error and error.count("\n") == 1

"""The stand-in itself: it refuses what RisingWave would, and commands run on it."""

from __future__ import annotations

import json

import pytest

from headrace.cli import main
from tests.standin import violations


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
        "with x as (select n from (values (1::bigint)) as given (n)) select n from x",
    ],
)
def test_what_it_has_is_let_through(statement: str) -> None:
    assert violations(statement) == []


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

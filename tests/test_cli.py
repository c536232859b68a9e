"""Commands as a user and as a script meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.cli import main
from headrace.engine import Engine


@pytest.fixture
def database(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("HEADRACE_DSN", engine.dsn)
    monkeypatch.setenv("HEADRACE_HOME", str(engine.settings.home))
    return engine


def test_status_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(tmp_path / "none"), "status", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {"postgres": {"running": False, "pid": None}, "processes": {}, "models": []}
    assert not (tmp_path / "none").exists()


def test_policies_are_set_shown_and_reset(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "churn", "min_new_labels=7", "cooldown=1 hour", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["own"] == {"min_new_labels": "7", "cooldown": "1 hour"}
    assert database.rows(
        "select min_new_labels from headrace.model_policies where model = 'churn'"
    ) == [{"min_new_labels": 7.0}]
    assert main(["policy", "churn", "min_new_labels="]) == 0
    assert "min_new_labels     200   (default)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["policy", "churn", "min_new_labels"], "POLICY=VALUE"),
        (["policy", "churn", "nonsense=1"], "known policy"),
        (["versions", "churn"], "no version of 'churn' is known"),
        (["promote", "churn", "v1"], "none is published"),
        (["promote", "churn", "v1", "--traffic", "2"], "share in (0, 1), got 2.0"),
        (["rollback", "churn"], "no version of 'churn' serves"),
        (["dbt"], "headrace dbt build"),
        (["dashboards", "push"], "HEADRACE_GRAFANA_URL"),
    ],
)
@pytest.mark.usefixtures("database")
def test_errors_are_one_line_that_helps(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("headrace: ") and error.count("\n") == 1


def test_a_mistyped_setting_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_PROT", "1")
    assert main(["settings"]) == 1
    assert "HEADRACE_PROT: no such setting" in capsys.readouterr().err
    monkeypatch.delenv("HEADRACE_PROT")
    monkeypatch.setenv("HEADRACE_PORT", "high")
    assert main(["settings"]) == 1
    assert "HEADRACE_PORT: must be a whole number, got 'high'" in capsys.readouterr().err


def test_unknown_arguments_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["status", "--loud"])
    assert end.value.code == 2
    assert "--loud" in capsys.readouterr().err


def test_secrets_are_not_shown(engine: Engine) -> None:
    password = engine.dsn.split("password=")[1].split()[0]
    assert password not in repr(engine.settings)
    assert password not in repr(engine)


@pytest.mark.usefixtures("database")
def test_a_trainer_without_work_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainer", "--once"]) == 0
    assert "nothing is due" in capsys.readouterr().out

"""Commands as a user and as a script meet them."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from io import StringIO
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headrace.cli import main
from headrace.control.owner import owner_key, reviewer_key
from headrace.deploy import migrate
from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from headrace.errors import EngineError
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.operate.printing import Steps, print_table
from headrace.operate.status import addresses
from headrace.settings import Settings


@pytest.fixture
def database(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("HEADRACE_DSN", engine.dsn)
    monkeypatch.setenv("HEADRACE_HOME", str(engine.settings.home))
    return engine


def test_status_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(tmp_path / "none"), "status", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {
        "postgres": {"running": False, "pid": None}, "processes": {}, "reader": None, "models": [],
    }  # fmt: skip
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


def test_a_model_is_handed_over_and_taken_back(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "churn"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("churn learns: ") and "no event has come yet" in said
    assert main(["train", "churn", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"model": "churn", "learns": True, "triggers": []}
    with EventLog(database) as log:
        log.append("inference", [parse("inference", {"model": name}) for name in ("churn", "x")])
    assert main(["train", "churn"]) == 0
    assert "churn: nothing is due yet (0 new labels, of 200)" in capsys.readouterr().out
    assert main(["train", "*"]) == 0
    said = capsys.readouterr().out
    assert "churn: nothing is due" in said and "x: nothing is due" in said and "'*' --off" in said
    assert main(["train", "*", "--off"]) == 0
    assert main(["train", "x", "--off"]) == 0
    assert "x is watched only" in capsys.readouterr().out
    rows = database.rows("select model, learns from headrace.model_policies order by model")
    assert rows == [{"model": "churn", "learns": True}, {"model": "x", "learns": False}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "a\tb"], "model: must be a printable name"),
        (["policy", "churn", "learn=maybe"], "learn: must be one of on, off, got 'maybe'"),
        (["policy", "churn", "min_new_labels"], "POLICY=VALUE"),
        (["policy", "churn", "nonsense=1"], "known policy"),
        (["versions", "churn"], "no version of 'churn' is known"),
        (["promote", "churn", "v1"], "none is published"),
        (["promote", "churn", "v1", "--traffic", "2"], "share in (0, 1), got 2.0"),
        (["rollback", "churn"], "no version of 'churn' serves"),
        (["export", "churn", "--to", "x"], "no version of 'churn' serves"),
        (["export", "churn", "v1", "--to", "x"], "none is published"),
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


@pytest.mark.usefixtures("database")
def test_a_page_is_drawn_until_somebody_stops_it(tmp_path: Path) -> None:
    path = tmp_path / "loop.html"
    seen: set[int] = set()

    def look() -> None:
        while len(seen) < 2:
            if path.exists():
                seen.add(path.stat().st_mtime_ns)
        os.kill(os.getpid(), signal.SIGINT)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        threading.Thread(target=look, daemon=True).start()
        assert main(["dashboards", "page", "--out", str(path), "--every", "1"]) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert len(seen) == 2


def test_unknown_arguments_end_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--loud"]) == 2
    assert "--loud" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (EngineError("it\nis away"), 1, "headrace: it is away\n"),
        (
            psycopg.OperationalError("server closed\nthe connection"), 1,
            "headrace: the database says: server closed the connection; "
            "`headrace doctor` looks for the cause\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/home/x"), 1,
            "headrace: /home/x: No space left on device; free some disk space, or set "
            "HEADRACE_HOME to a folder on another disk\n",
        ),
        (
            ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 1,
            "headrace: [Errno 111] Connection refused; `headrace doctor` looks for the cause\n",
        ),
        (
            ModuleNotFoundError("No module named 'feast.x'", name="feast.x"), 1,
            "headrace: feast.x is missing: this needs `pip install 'headrace[features]'`\n",
        ),
        (KeyboardInterrupt(), 130, "headrace: stopped\n"),
    ],
)  # fmt: skip
def test_a_command_that_fails_says_so_in_one_line(
    error: BaseException, code: int, said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("headrace.operate.status.status_of", Mock(side_effect=error))
    assert main(["status"]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "error", [KeyError("x"), ModuleNotFoundError("No module named 'headrace.x'", name="headrace.x")]
)
def test_a_bug_has_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("headrace.operate.status.status_of", Mock(side_effect=error))
    assert main(["status"]) == 1
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("Traceback") and "this is a bug" in last and repr(error) in last


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m headrace.cli settings --json | head -c 1 | cat; "
        'echo "${PIPESTATUS[0]}"',
        shell=True, executable="/bin/bash", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[0\n", "")


def test_secrets_are_not_shown(engine: Engine) -> None:
    password = engine.dsn.split("password=")[1].split()[0]
    assert password not in repr(engine.settings)
    assert password not in repr(engine)


@pytest.mark.usefixtures("database")
def test_reviewers_get_a_key_of_their_own(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = owner_key(settings)
    assert main(["--home", str(settings.home), "review", "a model"]) == 0
    address = urlsplit(capsys.readouterr().out.strip())
    given = parse_qs(address.fragment)
    assert address.path == "/review" and given["model"] == ["a model"]
    assert given["key"] == [reviewer_key(owner).value] and owner.value not in given["key"]


def test_a_trainer_without_work_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trainer", "--once"]) == 0
    assert "nothing is due" in capsys.readouterr().out


def test_status_has_an_address_to_read_at(
    template: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]
) -> None:
    home = str(template.folder.parent)
    assert main(["--home", home, "status", "--json"]) == 0
    reader = json.loads(capsys.readouterr().out)["reader"]
    with psycopg.connect(reader["url"]) as connection:
        assert connection.execute("select current_user").fetchall() == [("headrace_reader",)]
        connection.execute("select * from headrace.retrain_trigger")
    assert main(["--home", home, "status"]) == 0
    shown = capsys.readouterr().out
    assert reader["url"] in shown and reader["jdbc"] in shown
    assert template.password("headrace") not in shown


@given(
    user=st.text(st.characters(exclude_categories=["C"]), min_size=1),
    password=st.text(st.characters(exclude_categories=["C"]), min_size=1),
    database=st.text(st.characters(exclude_categories=["C"]), min_size=1),
    host=st.sampled_from(["db.example", "::1", "/run/postgres"]),
)
def test_addresses_hold_any_name(user: str, password: str, database: str, host: str) -> None:
    dsn = make_conninfo(user=user, password=password, dbname=database, host=host, port=5433)
    found = addresses(dsn, encrypted=False)
    assert conninfo_to_dict(found["url"]) == {**conninfo_to_dict(dsn), "sslmode": "disable"}
    asked = parse_qs(urlsplit(found["jdbc"].removeprefix("jdbc:")).query, strict_parsing=True)
    assert asked == {"user": [user], "password": [password], "sslmode": ["disable"]}


@pytest.mark.parametrize(("option", "who"), [([], "headrace_reader"), (["--owner"], "headrace")])
def test_psql_reads_unless_told_otherwise(
    template: EmbeddedPostgres, option: list[str], who: str, capfd: pytest.CaptureFixture[str]
) -> None:
    home = str(template.folder.parent)
    assert main(["--home", home, "psql", *option, "-Atc", "select current_user"]) == 0
    assert capfd.readouterr().out.strip() == who


def test_psql_on_a_database_of_ones_own(
    database: Engine,
    template: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked = ["psql", "-Atc", "select current_user"]
    assert main(asked) == 1
    assert "HEADRACE_READER_DSN" in capfd.readouterr().err
    password = template.password("headrace_reader")
    reader = make_conninfo(database.dsn, user="headrace_reader", password=password)
    monkeypatch.setenv("HEADRACE_READER_DSN", reader)
    assert main(asked) == 0
    assert main([*asked, "--owner"]) == 0
    assert capfd.readouterr().out.split() == ["headrace_reader", "headrace"]
    assert main(["status", "--json"]) == 0
    assert "headrace_reader" in json.loads(capfd.readouterr().out)["reader"]["url"]


def test_a_migration_says_how_far_it_is(engine: Engine) -> None:
    said: list[str] = []
    migrate(engine, force=True, say=said.append)
    steps = [line.partition(":")[0] for line in said]
    assert steps[0] == "tables" and set(steps[1:]) == {"views"}
    done, _, all_of_them = said[-1].removeprefix("views: ").partition("/")
    assert done == all_of_them and int(done) > 50
    assert [line.split("/")[0] for line in said[2:]] == [
        f"views: {count}" for count in range(1, int(done) + 1)
    ]
    migrate(engine, say=said.append)
    assert len(said) == int(done) + 2


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_steps_replace_each_other_on_a_terminal_only() -> None:
    lines = ["PostgreSQL: starting", "views: 1/3", "views: 2/3", "gateway: starting"]
    for stream, wanted in (
        (Terminal(), [*lines[:2], "\x1b[A\x1b[2Kviews: 2/3", lines[3]]),
        (StringIO(), [*lines[:2], lines[3]]),
    ):
        steps = Steps(stream)
        for line in lines:
            steps(line)
        assert stream.getvalue().splitlines() == wanted


def test_a_name_that_steers_terminals_is_shown_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"model": "a\x1b[2Jb\n\u202ec", "auc": 0.123456, "größe": None}])
    assert capsys.readouterr().out == (
        "model               auc     größe\na\\x1b[2Jb\\n\\u202ec  0.1235\n"
    )


def test_the_connection_for_a_dbt_of_the_users(
    database: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dbt", "env"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert {tuple(words[:1]) for words in lines} == {("export",)}
    told = dict(words[1].split("=", 1) for words in lines)
    parts = conninfo_to_dict(database.dsn)
    assert (told["HEADRACE_PGDATABASE"], told["HEADRACE_PGPASSWORD"]) == (
        parts["dbname"], parts["password"],
    )  # fmt: skip
    assert (Path(told["DBT_PROFILES_DIR"]) / "profiles.yml").exists()


def test_the_documentation_opens_by_one_command(
    database: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = database.settings.home / "dbt" / "target"
    read: list[str] = []

    def generate(_: Engine, *arguments: str, echo: bool) -> None:
        assert arguments == ("docs", "generate") and echo
        made.mkdir(parents=True)
        (made / "index.html").write_text("the docs")

    def browse(url: str) -> None:
        def look() -> None:
            read.append(httpx.get(url).text)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=look).start()

    monkeypatch.setattr("headrace.deploy.dbt", generate)
    monkeypatch.setattr("webbrowser.open", browse)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["dbt", "docs"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert read == ["the docs"]
    assert capsys.readouterr().out.startswith("docs     http://127.0.0.1:")

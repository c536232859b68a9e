"""`headrace alerts`: list, test, send."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.alerting.notices import Notices
from headrace.alerting.receivers import read_receivers
from headrace.cli import main
from headrace.engine import Engine
from tests.support.alerting import fail, held
from tests.support.receiving import Receiving

KEY = "a-routing-key"


@pytest.fixture
def file(engine: Engine, web: Receiving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A headrace.toml with a receiver, and settings for it."""
    file = tmp_path / "headrace.toml"
    file.write_text(
        '[alerts.oncall]\nkind = "pagerduty"\nurl_env = "PAGER_URL"\nsecret_env = "PAGER_KEY"\n'
    )
    for name, value in {
        "HEADRACE_DSN": engine.dsn, "HEADRACE_HOME": str(engine.settings.home),
        "HEADRACE_MODELS": str(file), "HEADRACE_ALERT_HOSTS": "127.0.0.1",
        "PAGER_URL": f"{web.url}/in", "PAGER_KEY": KEY,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return file


def test_what_fires_is_listed_with_who_was_told(
    engine: Engine, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alerts"]) == 0
    assert capsys.readouterr().out == "no alert fires\n"
    fail(engine, errors=20)
    notices, rows = Notices(engine), engine.rows("select * from headrace.alerts")
    with held(notices) as lease:
        notices.note(read_receivers(file), rows, lease)
    notices.failed("oncall", notices.due("oncall", 60, 9), "HTTP 503")
    assert main(["alerts", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    (errors,) = [row for row in listed if row["alert"] == "errors"]
    assert (errors["model"], errors["subject"], errors["state"]) == ("m", "v1", "firing")
    assert errors["since"].startswith("2024-06-01") and errors["told"] == {"oncall": "HTTP 503"}
    assert main(["alerts"]) == 0
    assert "oncall: HTTP 503" in capsys.readouterr().out


@pytest.mark.usefixtures("file")
def test_a_receiver_is_tried(web: Receiving, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", "test", "oncall"]) == 0
    assert "oncall has taken a test alert and its end" in capsys.readouterr().out
    first, end = (each.json for each in web.got["/in"])
    assert (first["event_action"], end["event_action"]) == ("trigger", "resolve")
    assert first["dedup_key"] == end["dedup_key"] and first["payload"]["class"] == "test"
    web.planted["/in"] = [403]
    assert main(["alerts", "test", "oncall"]) == 1
    said = capsys.readouterr().err
    assert said == "headrace: alerts.oncall: it answered with HTTP 403\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["test", "onkall"], "RECEIVER: must be declared in headrace.toml, where there are oncall"),
        (["send"], "alerts.oncall.secret_env: the variable that it names is not set"),
    ],
)
@pytest.mark.usefixtures("file")
def test_mistakes_are_one_line(
    arguments: list[str], said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delenv("PAGER_KEY")
    assert main(["alerts", *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_arguments_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["test"], ["list", "oncall"], ["tell"]):
        assert main(["alerts", *arguments]) == 2
    assert "must have RECEIVER with test" in capsys.readouterr().err

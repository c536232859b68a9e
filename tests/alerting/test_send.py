"""Alerts arrive: at receivers that fail, hang, refuse or are away, and after kill -9."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.alerting import send
from headrace.alerting.receivers import Receiver
from headrace.alerting.send import Sender, lines
from headrace.engine import Engine
from headrace.errors import SettingError
from tests.support.alerting import fail, webhook
from tests.support.receiving import Receiving
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
SECRET = "the-path-is-a-secret"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(send, "REST", 0)


@contextmanager
def sending(
    engine: Engine, receivers: Mapping[str, Receiver], environ: Mapping[str, str] | None = None
) -> Iterator[Sender]:
    """A sender that looks often, and for which what is gone has ended."""
    sender = Sender(engine, lines(receivers, "127.0.0.1", environ or {}), every_s=0.05, settle_s=0)
    stop = threading.Event()
    thread = threading.Thread(target=sender.run, args=[stop])
    thread.start()
    try:
        yield sender
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def critical(url: str) -> Receiver:
    """A receiver of errors: what else the events of a test may alert is a warning."""
    return webhook(url, severities=("critical",))


def closed(engine: Engine) -> bool:
    rows = engine.rows("select closed_at from control.notices")
    return bool(rows) and all(row["closed_at"] for row in rows)


def test_an_alert_and_its_end_arrive_once_whatever_others_do(
    engine: Engine, web: Receiving
) -> None:
    """One receiver fails twice, one hangs, one redirects elsewhere, one refuses the message."""
    web.planted |= {"/fails": [500, 503], "/hangs": [0], "/moved": [307] * 99, "/no": [400] * 2}
    web.headers = {"Location": "/elsewhere"}
    names = ("fails", "hangs", "moved", "no", "well")
    fail(engine, errors=20)
    with sending(engine, {name: critical(f"{web.url}/{name}") for name in names}):
        until(lambda: len(web.got["/well"]) == 1 and len(web.got["/fails"]) == 3)
        fail(engine, errors=0, minutes=60)
        until(lambda: len(web.got["/well"]) == 2 and len(web.got["/fails"]) == 4)
        until(lambda: len(web.got["/no"]) == 2 and len(web.got["/moved"]) > 3)
        web.ended.set()
    first, end = web.got["/well"]
    assert (first.json["status"], end.json["status"]) == ("firing", "resolved")
    assert first.json["alerts"][0]["labels"] == {
        "alertname": "errors", "model": "m", "subject": "v1", "severity": "critical",
    }  # fmt: skip
    assert len(set(web.ids("/well"))) == 2
    assert len(set(web.ids("/fails")[:3])) == 1  # the same message, three times
    assert "/elsewhere" not in web.got
    problems = {
        row["receiver"]: row["problem"]
        for row in engine.rows("select receiver, problem from control.notices")
    }
    assert problems["well"] is problems["fails"] is None
    assert (problems["no"], problems["moved"]) == (
        "it refuses the message: HTTP 400", "HTTP 307",
    )  # fmt: skip


def test_a_sender_that_is_killed_before_it_keeps_an_answer_sends_the_same_message_again(
    engine: Engine, web: Receiving
) -> None:
    fail(engine, errors=20)
    killed = subprocess.run(
        [sys.executable, "-m", "tests.support.doomed_sender", engine.dsn,
         str(engine.settings.home), f"{web.url}/ours"],
        cwd=ROOT, timeout=120, check=False,
    )  # fmt: skip
    assert killed.returncode == -9 and len(web.got["/ours"]) == 1
    receivers = {"ours": critical(f"{web.url}/ours")}
    with sending(engine, receivers) as heir:
        heir.lease.renew()
        assert not heir.lease.is_held()  # it waits for the lease of the one that was killed
        with engine.connect() as connection:
            connection.execute("update control.leases set held_until = clock_timestamp()")
        until(heir.lease.renew)
        until(lambda: engine.rows("select from control.notices where told_at is not null"))
    with sending(engine, receivers) as restarted:
        until(restarted.lease.is_held)
        fail(engine, errors=0, minutes=60)
        until(lambda: closed(engine))
    first, again, end = web.ids("/ours")
    assert first == again != end


def test_of_two_senders_one_sends_and_the_other_goes_on(engine: Engine, web: Receiving) -> None:
    receivers = {"ours": critical(f"{web.url}/ours")}
    with sending(engine, receivers) as second:
        with sending(engine, receivers) as first:
            until(lambda: first.lease.is_held() or second.lease.is_held())
            fail(engine, errors=20)
            until(lambda: web.got["/ours"])
            assert first.lease.is_held() != second.lease.is_held()
        fail(engine, errors=0, minutes=60)
        until(lambda: closed(engine))
    assert [each.json["status"] for each in web.got["/ours"]] == ["firing", "resolved"]


def test_no_secret_is_logged_or_kept(
    engine: Engine, web: Receiving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    environ = {"URL": f"{web.url}/{SECRET}", "KEY": SECRET, "AWAY": f"http://127.0.0.1:1/{SECRET}"}
    receivers = {
        "slack": Receiver(kind="slack", url_env="URL"),
        "pagerduty": Receiver(kind="pagerduty", url_env="URL", secret_env="KEY"),
        "away": Receiver(kind="alertmanager", url_env="AWAY", secret_env="KEY"),
    }
    web.planted[f"/{SECRET}"] = [500, 400, 429]
    fail(engine, errors=20)
    with sending(engine, receivers, environ):
        until(lambda: len(web.got[f"/{SECRET}"]) >= 4)
        until(
            lambda: engine.rows("select from control.notices where problem like '%%ConnectErr%%'")
        )
    assert caplog.records
    kept = engine.rows("select * from control.notices")
    assert SECRET not in caplog.text + repr(kept)


def test_a_host_that_is_not_listed_is_refused_at_the_start() -> None:
    for url in ("https://a.example/x", "http://127.0.0.2/"):
        with pytest.raises(SettingError, match="HEADRACE_ALERT_HOSTS: must list"):
            lines({"ours": webhook(url)}, "127.0.0.1,b.example")


def test_pauses_double_up_to_a_limit_and_differ(engine: Engine) -> None:
    (line,) = lines({"ours": webhook("http://127.0.0.1:1")}, "127.0.0.1")
    sender = Sender(engine, [line])
    pauses = [sender._couriers[0]._pause() for _ in range(30)]
    for number, pause in enumerate(pauses):
        longest = min(0.02 * 2**number, send.LONGEST_PAUSE_S)
        assert longest / 2 <= pause <= longest
    assert len(set(pauses[-10:])) == 10

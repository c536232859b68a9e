"""Whatever fails, a run ends with its reason, and the trainer goes on."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headrace.control.claims import Claim, Heartbeat, claim
from headrace.engine import Engine
from headrace.errors import ContractError, ModelError
from headrace.events.tables import TableWriter
from headrace.trainer.watch import LONGEST_REST_S, Trainer
from tests.support.competition import TRIGGER
from tests.support.promising import events, folders, promising, run
from tests.support.standin import grow_old

ERRORS = [
    OSError(28, "No space left on device"),
    MemoryError(),
    RuntimeError("CUDA out of memory"),
    ModelError("no such layer"),
    ContractError("features", "an object", 1),
    psycopg.errors.UndefinedColumn("no such column"),
    ValueError("\ud800\0" + "😀" * 3_000),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_run_that_fails_ends_in_an_event(
    engine: Engine,
    held: Claim,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fail(*_: object) -> None:
        raise error

    caplog.set_level(logging.CRITICAL + 1)  # a report with a lone surrogate cannot be sent
    monkeypatch.setattr("headrace.trainer.watch.read_brief", fail)
    with Trainer(engine) as trainer, Heartbeat(engine, held) as heartbeat:
        trainer._run(held, heartbeat)
    ((event, reason),) = events(engine)
    assert event == "rejected" and reason.startswith(type(error).__name__)
    grow_old(engine)
    assert claim(engine, TRIGGER, "heir") is None


@pytest.mark.parametrize("where", ["disk", "database"])
def test_a_version_that_cannot_be_published_ends_in_an_event_and_leaves_nothing(
    engine: Engine, held: Claim, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    write_if = TableWriter.write_if

    def run_full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    def refuse(self: TableWriter, rows: Any, holds: Any) -> bool:
        if len(rows) > 1:
            raise psycopg.errors.CheckViolation("refused")
        return write_if(self, rows, holds)

    if where == "disk":
        monkeypatch.setattr("headrace.model.artifact.sync", run_full)
    else:
        monkeypatch.setattr(TableWriter, "write_if", refuse)
    run(engine, held, monkeypatch, lambda *_: promising(engine, held))
    ((event, reason),) = events(engine)
    said = {"disk": "No space left", "database": "refused"}[where]
    assert event == "rejected" and said in reason
    assert folders(engine) == []


def test_a_run_of_which_nothing_can_be_written_is_over(
    engine: Engine, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise psycopg.errors.CheckViolation("refused")

    monkeypatch.setattr(TableWriter, "write_if", refuse)
    run(engine, held, monkeypatch, lambda *_: promising(engine, held))
    assert (events(engine), folders(engine)) == ([], [])
    grow_old(engine)
    assert claim(engine, TRIGGER, "heir") is None


def test_the_trainer_goes_on_after_any_error_and_rests_longer_each_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nine(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            rests.append(timeout or 0)
            if len(rests) == 9:
                self.set()
            return True

    def fail() -> bool:
        raise KeyError("a bug")

    rests: list[float] = []
    with Trainer(engine) as trainer:
        monkeypatch.setattr(trainer, "run_once", fail)
        monkeypatch.setattr(trainer, "_look_at_alerts", lambda: None)
        trainer.watch(Nine())
    assert rests == pytest.approx([1, 2, 4, 8, 16, 32, *[LONGEST_REST_S] * 3], rel=0.1)

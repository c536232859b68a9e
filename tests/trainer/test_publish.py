"""Publishing: whole or not at all, once, and only by the trainer that has the claim."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headrace.control.claims import Claim, Heartbeat, claim
from headrace.engine import Engine
from headrace.errors import LostClaimError
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.events.rows import ACCEPTED, EventRow
from headrace.events.tables import TableWriter
from headrace.model.artifact import publish_draft
from headrace.trainer import publish as publishing
from headrace.trainer.publish import clean_up, publish
from tests.support.competition import TRIGGER
from tests.support.doomed_trainer import STEPS
from tests.support.promising import events, folder, folders, promising, run, taken
from tests.support.standin import grow_old

pytestmark = pytest.mark.usefixtures("known_model")


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def publish_as(engine: Engine, held: Claim, said: str) -> None:
    with Heartbeat(engine, held) as heartbeat:
        publish(engine, heartbeat, promising(engine, held, said))


def take_over(engine: Engine) -> None:
    """Have the heir take the claim over and publish."""
    grow_old(engine)
    publish_as(engine, taken(engine, "heir"), "the heir's")


def test_a_run_is_published_whole_and_ends_its_claim(engine: Engine, held: Claim) -> None:
    publish_as(engine, held, "better")
    assert events(engine) == [("trained", "better"), ("promoted", "better")]
    ids = engine.rows("select event_id from events.model_events order by event_id")
    assert [row["event_id"] for row in ids] == [f"{held.run_id}/promoted", f"{held.run_id}/trained"]
    assert folders(engine) == [f"v1-{held.run_id}-1"]
    (row,) = engine.rows("select finished_at is not null as done from control.claims")
    assert row["done"]
    assert engine.rows("select content_sha256 from control.datasets") == [
        {"content_sha256": "better"}
    ]


def test_what_is_announced_is_on_disk(
    engine: Engine, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, synced, announced = os.fsync, [], []

    def note(descriptor: int) -> None:
        fsync(descriptor)
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def look(*_: Any) -> None:
        place = folder(engine) / f"v1-{held.run_id}-1"
        wanted = {path.name for path in place.iterdir()} | {f".draft-{held.run_id}-1"}
        assert wanted <= set(synced)
        renamed = synced[synced.index(f".draft-{held.run_id}-1") :]
        assert {folder(engine).name, "artifacts", engine.settings.home.name} <= set(renamed)
        announced.append(True)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(publishing, "_announce", look)
    publish_as(engine, held, "better")
    assert announced


def test_a_folder_that_is_there_is_never_replaced(engine: Engine, held: Claim) -> None:
    for said in ("first", "second"):
        candidate = promising(engine, held).candidate
        assert candidate is not None
        draft = (candidate.folder, held.model, "v1", candidate.manifest, said)
        if said == "first":
            place = publish_draft(*draft)
            before = files(place)
    with pytest.raises(OSError, match="is there already"):
        publish_draft(*draft)
    assert files(place) == before


@pytest.mark.parametrize("paused", ["before", "saved"])
def test_a_paused_trainer_changes_nothing_of_its_successor(
    engine: Engine, held: Claim, monkeypatch: pytest.MonkeyPatch, paused: str
) -> None:
    with Heartbeat(engine, held) as heartbeat, monkeypatch.context() as patch:
        if paused == "before":
            take_over(engine)
        else:

            def save_and_sleep(*arguments: Any) -> Path:
                patch.setattr(publishing, "publish_draft", publish_draft)
                place = publish_draft(*arguments)
                take_over(engine)
                return place

            patch.setattr(publishing, "publish_draft", save_and_sleep)
        with pytest.raises(LostClaimError):
            publish(engine, heartbeat, promising(engine, held, "too late"))
    assert events(engine) == [("trained", "the heir's"), ("promoted", "the heir's")]
    assert folders(engine) == [f"v1-{held.run_id}-2"]
    kept = engine.rows("select content_sha256 from control.datasets")
    assert kept == [{"content_sha256": "the heir's"}]
    assert engine.rows("select * from events.conflicts") == []


def test_a_trainer_whose_claim_is_taken_while_it_trains_writes_nothing(
    engine: Engine, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object) -> Any:
        grow_old(engine)
        taken(engine, "heir")
        return promising(engine, held, "too late")

    run(engine, held, monkeypatch, train)
    assert events(engine) == []
    assert engine.rows("select * from control.datasets") == []
    assert folders(engine) == []
    (row,) = engine.rows("select worker, finished_at from control.claims")
    assert (row["worker"], row["finished_at"]) == ("heir", None)


def test_a_take_over_waits_for_a_publication_and_finds_it_over(
    engine: Engine, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_in, heirs = Heartbeat.finish_in, []

    def finish_slowly(self: Heartbeat, connection: Any) -> bool:
        finished = finish_in(self, connection)
        heir = threading.Thread(target=lambda: got.append(claim(engine, TRIGGER, "heir")))
        heir.start()
        heirs.append(heir)
        heir.join(0.5)
        assert heir.is_alive()
        return finished

    got: list[Claim | None] = []
    grow_old(engine)
    monkeypatch.setattr(Heartbeat, "finish_in", finish_slowly)
    publish_as(engine, held, "better")
    heirs[0].join()
    assert got == [None]
    assert events(engine) == [("trained", "better"), ("promoted", "better")]


def test_a_commit_whose_answer_is_lost_counts_once(
    engine: Engine, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_if, tries = TableWriter.write_if, []

    def commit_and_lose(self: TableWriter, rows: Any, holds: Any) -> bool:
        tries.append(True)
        committed = write_if(self, rows, holds)
        if len(tries) == 1:
            raise psycopg.OperationalError("the connection is lost")
        return committed

    monkeypatch.setattr(TableWriter, "write_if", commit_and_lose)
    publish_as(engine, held, "better")
    assert len(tries) == 2
    assert events(engine) == [("trained", "better"), ("promoted", "better")]
    assert engine.rows("select * from events.conflicts") == []
    assert folders(engine) == [f"v1-{held.run_id}-1"]


@pytest.mark.parametrize("lost", [False, True])
def test_through_kafka_the_claim_is_looked_at_before_events_are_sent(
    either: Engine, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    class Sent:
        def write(self, rows: list[EventRow]) -> None:
            for row in rows:
                row.receipt = ACCEPTED
                sent.append(row.id)

        def close(self) -> None:
            pass

    sent: list[str] = []
    monkeypatch.setattr(publishing, "row_writer", lambda _: Sent())
    through = Engine(either.dsn, replace(either.settings, kafka="localhost:1"))
    held = taken(either, "first")
    with Heartbeat(through, held) as heartbeat:
        if lost:
            grow_old(either)
            taken(either, "heir")
            with pytest.raises(LostClaimError):
                publish(through, heartbeat, promising(either, held))
        else:
            publish(through, heartbeat, promising(either, held))
    clean_up(through, held)  # an event may be under way
    ids = [f"{held.run_id}/{name}" for name in ("trained", "promoted")]
    (row,) = either.rows("select finished_at is not null as done from control.claims")
    assert (sent, folders(either), row["done"]) == (
        ([], [], False) if lost else (ids, [f"v1-{held.run_id}-1"], True)
    )


def test_the_claim_of_a_run_whose_outcome_is_stored_is_ended(either: Engine, log: EventLog) -> None:
    """As a trainer leaves it that dies after it sent its events to Kafka."""
    held = taken(either, "dead")
    later = replace(held, trigger_id=f"{held.model}/2")
    query = "select finished_at is not null as done from control.claims"
    clean_up(either, later)
    assert either.rows(query) == [{"done": False}]
    event = {"model": held.model, "model_version": "v1", "event": "rejected"}
    log.append("model_events", [parse("model_events", {**event, "run_id": held.run_id})])
    clean_up(either, held)
    assert either.rows(query) == [{"done": False}]
    clean_up(either, later)
    assert either.rows(query) == [{"done": True}]


@pytest.mark.parametrize("step", STEPS)
def test_a_trainer_killed_at_any_step_leaves_one_version_in_the_end(
    engine: Engine, step: str
) -> None:
    home = str(engine.settings.home)
    doomed = [sys.executable, "-m", "tests.support.doomed_trainer", engine.dsn, home, step]
    assert subprocess.run(doomed, check=False).returncode == -signal.SIGKILL
    left = folders(engine)
    assert len(left) == 1 and left[0].startswith(".draft-" if step == "drafted" else "v1-")
    grow_old(engine)
    if step == "committed":
        assert claim(engine, TRIGGER, "heir") is None
        said, attempt = "doomed", 1
    else:
        assert events(engine) == []
        heir = taken(engine, "heir")
        clean_up(engine, heir)
        assert folders(engine) == []
        publish_as(engine, heir, "the heir's")
        said, attempt = "the heir's", 2
    assert events(engine) == [("trained", said), ("promoted", said)]
    (name,) = folders(engine)
    assert name.startswith("v1-") and name.endswith(f"-{attempt}")
    (plan,) = engine.rows("select artifact_uri from headrace.serving_plan")
    assert plan["artifact_uri"].endswith(name)


def test_what_may_still_be_needed_is_kept(engine: Engine, held: Claim) -> None:
    """A version of no known run, one that is under way, one of the person's own making."""
    for name in ("v9-other-1", f".draft-{held.run_id}-1", f"v1-{held.run_id}-1", "v1", "mine-3"):
        (folder(engine) / name).mkdir(parents=True)
    before = folders(engine)
    clean_up(engine, held)
    assert folders(engine) == before
    grow_old(engine)
    publish_as(engine, taken(engine, "heir"), "the heir's")
    through = Engine(engine.dsn, replace(engine.settings, kafka="localhost:1"))
    clean_up(through, held)  # an event may be under way
    assert folders(engine) == sorted({*before, f"v1-{held.run_id}-2"} - {f".draft-{held.run_id}-1"})
    clean_up(engine, held)
    assert folders(engine) == sorted(["mine-3", "v1", f"v1-{held.run_id}-2", "v9-other-1"])


def test_a_trainer_cleans_up_after_the_one_before(
    engine: Engine, held: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder(engine) / f".draft-{held.run_id}-1").mkdir(parents=True)
    grow_old(engine)
    heir = taken(engine, "heir")
    run(engine, heir, monkeypatch, lambda *_: promising(engine, heir))
    assert folders(engine) == [f"v1-{held.run_id}-2"]

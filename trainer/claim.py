"""Claims: a due trigger is taken by exactly one trainer, and taken over from a dead one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

import psycopg
from psycopg.rows import class_row

from headrace.engine import Engine
from headrace.errors import EngineError
from headrace.events import uuid7


@dataclass(frozen=True)
class Trigger:
    """A due row of ``headrace.retrain_trigger``."""

    model: str
    trigger_id: str
    reason: str
    model_version: str | None


@dataclass(frozen=True)
class Claim:
    """The right to run one trigger, and the moment as of which it may know things."""

    trigger_id: str
    model: str
    worker: str
    run_id: str
    attempt: int
    claimed_at: datetime
    known_at: datetime
    event_clock: datetime


def due_triggers(engine: Engine) -> list[Trigger]:
    """Return what should be trained now."""
    with (
        engine.connect() as connection,
        connection.cursor(row_factory=class_row(Trigger)) as cursor,
    ):
        return cursor.execute(
            """
            select model, trigger_id, reason, model_version
            from headrace.retrain_trigger
            where due
            order by model
            """
        ).fetchall()


def claim(engine: Engine, trigger: Trigger, worker: str) -> Claim | None:
    """Take the trigger, or return None when another trainer has it or had it.

    A claim without a heartbeat for `lease_s` is taken over: its run id and the moment as of which
    it knows things stay, so that the same training set comes out.
    """
    with engine.connect(autocommit=False) as connection:
        moment = connection.execute("select events.ingested_up_to()").fetchone()
        assert moment is not None
        with connection.cursor(row_factory=class_row(Claim)) as cursor:
            return cursor.execute(
                """
                insert into control.claims as held
                    (trigger_id, model, worker, run_id, known_at, event_clock)
                select %(trigger_id)s, model, %(worker)s, %(run_id)s, %(known_at)s, event_clock
                from headrace.model_clock
                where model = %(model)s
                on conflict (trigger_id) do update set
                    worker = excluded.worker,
                    attempt = held.attempt + 1,
                    claimed_at = clock_timestamp(),
                    heartbeat_at = clock_timestamp()
                where
                    held.finished_at is null
                    and held.heartbeat_at < clock_timestamp() - make_interval(secs => %(lease_s)s)
                returning
                    trigger_id, model, worker, run_id, attempt, claimed_at, known_at, event_clock
                """,
                {
                    "trigger_id": trigger.trigger_id,
                    "model": trigger.model,
                    "worker": worker,
                    "run_id": uuid7(),
                    "known_at": moment[0],
                    "lease_s": engine.settings.lease_s,
                },
            ).fetchone()


def finish(connection: psycopg.Connection[Any], claim: Claim) -> None:
    """Mark the claim as done, whatever came of it."""
    connection.execute(
        "update control.claims set finished_at = clock_timestamp() where trigger_id = %s",
        [claim.trigger_id],
    )


class Heartbeat:
    """Keeps a claim alive while a run is under way; a context manager.

    `lost` is true once another trainer has taken the claim: then nothing may be published.
    """

    def __init__(self, engine: Engine, claim: Claim) -> None:
        self._engine = engine
        self._claim = claim
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-heartbeat", daemon=True)
        self.lost = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def beat(self) -> bool:
        """Renew the lease; false when the claim is no longer ours."""
        with self._engine.connect() as connection:
            row = connection.execute(
                """
                update control.claims set heartbeat_at = clock_timestamp()
                where trigger_id = %s and worker = %s and attempt = %s and finished_at is null
                returning 1
                """,
                [self._claim.trigger_id, self._claim.worker, self._claim.attempt],
            ).fetchone()
        self.lost = row is None
        return not self.lost

    def _run(self) -> None:
        while not self._stop.wait(self._engine.settings.lease_s / 4):
            try:
                if not self.beat():
                    return
            except (EngineError, psycopg.Error):
                continue

"""Claims: a due trigger is taken by exactly one trainer, and taken over from a dead one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import TracebackType

import psycopg
from psycopg.rows import class_row

from headrace.engine import Engine
from headrace.errors import EngineError
from headrace.events.contract import uuid7


@dataclass(frozen=True)
class Trigger:
    """A due row of ``headrace.retrain_trigger``."""

    model: str
    trigger_id: str
    reason: str
    model_version: str | None
    new_labels: int = 0
    examples: int = 0
    first_new_label_at: datetime | None = None


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
            select
                model, trigger_id, reason, model_version, new_labels, examples,
                first_new_label_at
            from headrace.retrain_trigger
            where due
            order by model
            """
        ).fetchall()


def pass_on(engine: Engine, triggers: Sequence[Trigger]) -> None:
    """Tell other systems of due triggers, where the engine has a feed of them."""
    if triggers:
        with engine.connect() as connection:
            engine.dialect.pass_on(connection, [asdict(trigger) for trigger in triggers])


def learns(engine: Engine, model: str) -> bool:
    """Whether versions of the model may be trained and promoted; else it is watched only."""
    rows = engine.rows("select learns from headrace.model_policies where model = %s", [model])
    return bool(rows and rows[0]["learns"])


def claim(engine: Engine, trigger: Trigger, worker: str) -> Claim | None:
    """Take the trigger, or return None when another trainer has it or had it.

    So it does when the model is watched only by now.

    A claim without a heartbeat for `lease_s` is taken over: its run id and the moment as of which
    it knows things stay, so that the same training set comes out.
    """
    if not learns(engine, trigger.model):
        return None
    with engine.connect() as connection:
        row = engine.dialect.claim(
            connection,
            trigger_id=trigger.trigger_id,
            model=trigger.model,
            worker=worker,
            run_id=uuid7(),
            lease_s=engine.settings.lease_s,
        )
    return Claim(**row) if row else None


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
            self.lost = not self._engine.dialect.renew(
                connection, self._claim.trigger_id, self._claim.attempt, self._claim.worker
            )
        return not self.lost

    def finish(self) -> None:
        """Mark the claim as done, whatever came of it; nothing renews it any more."""
        self._stop.set()
        self._thread.join()
        with self._engine.connect() as connection:
            self._engine.dialect.finish(connection, self._claim.trigger_id, self._claim.attempt)

    def _run(self) -> None:
        while not self._stop.wait(self._engine.settings.lease_s / 4):
            try:
                if not self.beat():
                    return
            except (EngineError, psycopg.Error):
                continue

"""Claims: exactly one trainer takes a due trigger, and another one takes over from a dead one.

What is sent to the engine is in `claims_postgres` and `claims_risingwave`, which `ClaimTable`
describes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol

import psycopg
from psycopg.rows import class_row

from headrace.control.claims_postgres import PostgresClaims
from headrace.control.claims_risingwave import RisingWaveClaims
from headrace.engine import Engine
from headrace.engine.dialect import Connection, Rows
from headrace.errors import EngineError
from headrace.events.contract import uuid7


@dataclass(frozen=True)
class Trigger:
    """A row of ``headrace.retrain_trigger`` with a reason; due unless something holds it back."""

    model: str
    trigger_id: str
    reason: str
    model_version: str | None
    new_labels: int = 0
    examples: int = 0
    first_new_label_at: datetime | None = None
    held_back_by: str | None = None
    event_clock: datetime | None = None

    @property
    def is_due(self) -> bool:
        return self.held_back_by is None


# Fields of a trigger that the feed of due ones does not have.
_NOT_PASSED_ON = ("held_back_by", "event_clock")


@dataclass(frozen=True)
class Claim:
    """The right to run one trigger. The run knows only what was ingested by `known_at`."""

    trigger_id: str
    model: str
    worker: str
    run_id: str
    attempt: int
    claimed_at: datetime
    known_at: datetime
    event_clock: datetime


class ClaimTable(Protocol):
    """The triggers and claims of one engine. Methods raise psycopg.Error."""

    def pass_on(self, triggers: Rows) -> None:
        """Put due triggers into the engine's feed of them, each once, where it has a feed."""

    def take(
        self, *, trigger_id: str, model: str, worker: str, run_id: str
    ) -> dict[str, Any] | None:
        """Take a trigger, or take it over after its lease; None where another worker has it.

        The row has the fields of `Claim`.
        """

    def renew(self, trigger_id: str, attempt: int, worker: str) -> bool:
        """Renew the lease; false where another worker has the claim by now, or it has ended."""

    def finish(self, connection: Connection, trigger_id: str, attempt: int, worker: str) -> bool:
        """Mark a claim as done, for good; false where another worker has it by now.

        On PostgreSQL that is part of the connection's transaction, which no take-over can overtake.
        """


def claim_table(engine: Engine) -> ClaimTable:
    """Return the claims of this engine."""
    tables: dict[str, Callable[[Engine], ClaimTable]] = {
        "postgres": PostgresClaims,
        "risingwave": RisingWaveClaims,
    }
    return tables[engine.dialect.name](engine)


def wanted_triggers(engine: Engine) -> list[Trigger]:
    """Return what there is a reason to train, with what holds it back.

    From ``headrace.retrain_trigger``.
    """
    with (
        engine.connect() as connection,
        connection.cursor(row_factory=class_row(Trigger)) as cursor,
    ):
        return cursor.execute(
            """
            select
                model, trigger_id, reason, model_version, new_labels, examples,
                first_new_label_at, held_back_by, event_clock
            from headrace.retrain_trigger
            where reason is not null
            order by model
            """
        ).fetchall()


def pass_on(engine: Engine, triggers: Sequence[Trigger]) -> None:
    """Tell other systems of due triggers, where the engine has a feed of them."""
    if triggers:
        claim_table(engine).pass_on(
            [
                {key: value for key, value in asdict(trigger).items() if key not in _NOT_PASSED_ON}
                for trigger in triggers
            ]
        )


def learns(engine: Engine, model: str) -> bool:
    """Whether versions of the model may be trained and promoted; else it is watched only."""
    rows = engine.rows("select learns from headrace.model_policies where model = %s", [model])
    return bool(rows and rows[0]["learns"])


def claim(engine: Engine, trigger: Trigger, worker: str) -> Claim | None:
    """Take the trigger; None when another trainer has or had it, or the model no longer learns.

    A claim without a heartbeat for `lease_s` is taken over. Its `run_id` and `known_at` stay, so
    the same training set comes out.
    """
    if not learns(engine, trigger.model):
        return None
    row = claim_table(engine).take(
        trigger_id=trigger.trigger_id, model=trigger.model, worker=worker, run_id=uuid7()
    )
    return Claim(**row) if row else None


class Heartbeat:
    """Keeps a claim alive while a run is under way; a context manager.

    `lost` is true once another trainer has taken the claim: then nothing may be published.
    """

    def __init__(self, engine: Engine, claim: Claim) -> None:
        self.claim = claim
        self._engine = engine
        self._table = claim_table(engine)
        self._every_s = engine.settings.lease_s / 4
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
        claim = self.claim
        self.lost = not self._table.renew(claim.trigger_id, claim.attempt, claim.worker)
        return not self.lost

    def finish(self) -> bool:
        """Stop the heartbeat and mark the claim as done, whatever the outcome; false as `beat`."""
        self._stop.set()
        self._thread.join()
        with self._engine.writing() as connection:
            return self.finish_in(connection)

    def finish_in(self, connection: Connection) -> bool:
        """Mark the claim as done in the transaction of a connection; false as `beat`."""
        claim = self.claim
        return self._table.finish(connection, claim.trigger_id, claim.attempt, claim.worker)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                if not self.beat():
                    return
            except (EngineError, psycopg.Error):
                continue

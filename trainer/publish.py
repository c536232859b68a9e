"""Publishing: the one write of a run. Its last step, the events, makes it count.

A trainer that lost its claim publishes nothing. On PostgreSQL events and the end of the claim are
one transaction. Through Kafka the claim is looked at right before the events are sent: a trainer
that is held up between the two may still send them. A run's event has one id, so of two `promoted`
the first one stays.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import psycopg
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
)

from headrace.control.claims import Claim, Heartbeat, claim_table
from headrace.control.lifecycle import rolls_out
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.errors import EngineError, LostClaimError, ModelError, one_line
from headrace.events.contract import ModelEvent, parse
from headrace.events.log import row_writer
from headrace.events.rows import ACCEPTED, EventRow, event_row
from headrace.events.tables import TableWriter
from headrace.model.artifact import publish_draft, written_folders
from headrace.trainer.card import model_card
from headrace.trainer.dataset import record_dataset
from headrace.trainer.run import Outcome
from headrace.trainer.stored_set import store

log = logging.getLogger(__name__)

# How long a folder that came by Kafka waits for its event.
KEPT = "1 day"
# Errors that may pass: the database is away, or it is RisingWave, which reports most errors as
# internal.
MAY_PASS = (EngineError, psycopg.OperationalError, psycopg.InternalError)
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0


def publish(engine: Engine, heartbeat: Heartbeat, outcome: Outcome) -> Outcome:
    """Write what a run came to, end its claim, and return it with the name of its version.

    That is the promoted artifact and the training set, then the events, `trained` and `promoted`,
    `trained` alone where the conductor rolls the version out, or else `rejected`, with the record
    of the dataset and the end of the claim. An outcome that was
    written already is not written again: the ids of events are those of the run.

    Raises:
        LostClaimError: another trainer has the claim; what was written is removed.
        OSError: the artifact cannot be written.
        ContractError: what the run says of itself is no event.
        ModelError: the training set cannot be stored, or the log refuses the events.
        psycopg.Error: so does the database, or it stays away for a lease.
    """
    claim = heartbeat.claim
    version = outcome.model_version or next_version(engine, claim.model)
    outcome = replace(outcome, model_version=version)
    place = None
    if outcome.promoted and outcome.candidate is not None:
        candidate = outcome.candidate
        card = model_card(claim, outcome, candidate)
        place = publish_draft(candidate.folder, claim.model, version, candidate.manifest, card)
    try:
        if outcome.dataset is not None:
            outcome = replace(
                outcome, dataset=store(engine.settings.artifacts_path, outcome.dataset)
            )
        outcome = replace(outcome, rolls_out=outcome.promoted and rolls_out(engine, claim.model))
        names = ("trained", "promoted") if outcome.promoted else ("rejected",)
        if outcome.rolls_out:
            names = ("trained",)
        uri = place.as_uri() if place else None
        events = [_event(claim, outcome, name, uri) for name in names]
        _announce(engine, heartbeat, outcome, events)
    except Exception as error:
        # After an error that may pass, the events may be there.
        if place is not None and not isinstance(error, MAY_PASS):
            shutil.rmtree(place, ignore_errors=True)
        raise
    return outcome


def clean_up(engine: Engine, held: Claim) -> None:
    """Remove folders and end claims of this model that trainers before the present one left.

    That is the claims of runs whose outcome is stored, and what runs wrote that were taken over or
    have ended and that no event names.

    Through Kafka an event may be under way, so a version stays for KEPT after the end of its run.
    """
    _end_claims(engine, held)
    model = held.model
    folders = written_folders(engine.settings.artifacts_path, model)
    if not folders:
        return
    claims = {
        row["run_id"]: row
        for row in engine.rows(
            "select run_id, attempt, finished_at is not null as ended, "
            "finished_at < now() - %s::interval as is_long_over "
            "from control.claims where model = %s",
            [KEPT, model],
        )
    }
    # After the claims: what a claim that was over had to say is among these.
    named = {
        row["artifact_uri"].rstrip("/").rsplit("/", 1)[-1]
        for row in engine.rows(
            "select artifact_uri from events.model_events "
            "where model = %s and artifact_uri is not null",
            [model],
        )
    }
    for folder, run in folders:
        claim = claims.get(run.run_id)
        if claim is None or folder.name in named:
            continue
        over = claim["ended"] or run.attempt < claim["attempt"]
        if engine.settings.kafka and not folder.name.startswith("."):
            over = claim["is_long_over"]
        if over:
            log.info("%s was never published and is removed", folder)
            shutil.rmtree(folder, ignore_errors=True)


def _end_claims(engine: Engine, held: Claim) -> None:
    published = engine.rows(
        """
        select distinct claims.trigger_id, claims.attempt, claims.worker
        from control.claims as claims
        inner join events.model_events as events on claims.run_id = events.run_id
        where
            claims.model = %s
            and claims.trigger_id != %s
            and claims.finished_at is null
            and events.event in ('trained', 'rejected')
        """,
        [held.model, held.trigger_id],
    )
    if published:
        with engine.writing() as connection:
            for each in published:
                claim_table(engine).finish(connection, **each)


def _announce(
    engine: Engine, heartbeat: Heartbeat, outcome: Outcome, events: Sequence[ModelEvent]
) -> None:
    """Store the events, try again for as long as a lease while the database is away."""
    rows = [event_row("model_events", event) for event in events]
    write = _send if engine.settings.kafka else _commit
    for attempt in Retrying(
        retry=retry_if_exception_type(MAY_PASS),
        wait=wait_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S),
        stop=stop_after_delay(engine.settings.lease_s),
        before_sleep=_say_why,
        reraise=True,
    ):
        with attempt:
            write(engine, heartbeat, outcome, rows)
    for row in rows:
        if row.receipt is not None and row.receipt.status == "rejected":
            raise ModelError(f"the events of the run were rejected: {row.receipt.reason}")


def _say_why(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    log.warning("cannot publish, trying again in %.2f s: %s", pause, error and one_line(error))


def _commit(
    engine: Engine, heartbeat: Heartbeat, outcome: Outcome, rows: Sequence[EventRow]
) -> None:
    """Store events, dataset and the end of the claim in one transaction, or nothing.

    The claim comes last: a take-over locks the event tables before it.
    """

    def end(connection: Connection) -> bool:
        if not heartbeat.finish_in(connection):
            return False
        if outcome.dataset is not None:
            record_dataset(engine, connection, heartbeat.claim, outcome.dataset)
        return True

    with closing(TableWriter(engine)) as writer:
        if not writer.write_if(rows, end):
            raise LostClaimError(heartbeat.claim.trigger_id)


def _send(engine: Engine, heartbeat: Heartbeat, outcome: Outcome, rows: Sequence[EventRow]) -> None:
    """Look whose the claim is, send the events to Kafka, and end the claim: three steps."""
    if not heartbeat.beat():
        raise LostClaimError(heartbeat.claim.trigger_id)
    if outcome.dataset is not None:
        with engine.writing() as connection:
            record_dataset(engine, connection, heartbeat.claim, outcome.dataset)
    with closing(row_writer(engine)) as writer:
        writer.write([row for row in rows if row.receipt is None])
    if all(row.receipt == ACCEPTED for row in rows):
        heartbeat.finish()


def next_version(engine: Engine, model: str) -> str:
    """Return the first free name of the form v1, v2, …; names that others used stay theirs."""
    rows = engine.rows(
        """
        select model_version from headrace.model_versions where model = %(model)s
        union
        select model_version from panes.model_activity where model = %(model)s
        """,
        {"model": model},
    )
    used = {row["model_version"] for row in rows}
    counted = [int(name[1:]) for name in used if re.fullmatch(r"v[0-9]{1,9}", name)]
    number = max(counted, default=0) + 1
    while f"v{number}" in used:
        number += 1
    return f"v{number}"


def _event(claim: Claim, outcome: Outcome, name: str, uri: str | None) -> ModelEvent:
    event = parse(
        "model_events",
        {
            "model": claim.model,
            "model_version": outcome.model_version,
            "event": name,
            "event_id": f"{claim.run_id}/{name}",
            "event_time": claim.event_clock.isoformat(),
            "run_id": claim.run_id,
            "trigger_id": claim.trigger_id,
            "dataset_id": claim.run_id,
            "parent_version": outcome.parent,
            "artifact_uri": uri,
            "metrics": dict(outcome.metrics) if name != "promoted" else {},
            "reason": outcome.reason,
        },
    )
    assert isinstance(event, ModelEvent)
    return event

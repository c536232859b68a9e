"""Promotion and rollback by hand. Each is one more model event; no event is changed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from typing import Any

from headrace.control.lease import take_transaction_lock
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.errors import EngineError, ModelError
from headrace.events.contract import ModelEvent, parse
from headrace.events.log import EventLog
from headrace.events.rows import event_row
from headrace.events.tables import TableWriter

VISIBLE_TIMEOUT_S = 30.0
MOST_TRIES = 10


def promote(
    engine: Engine,
    model: str,
    model_version: str,
    *,
    traffic: float | None = None,
    reason: str = "by hand",
) -> None:
    """Make a published version the champion, or a canary for a share `traffic` in (0, 1).

    Raises:
        ModelError: no such version is published, or the share is out of range.
        EngineError: the views do not show the event after half a minute.
    """
    if traffic is not None and not 0 < traffic < 1:
        raise ModelError(f"traffic: must be a share in (0, 1), got {traffic}")
    _check_published(model_version, _published(engine, model))
    _append(
        engine,
        model,
        model_version=model_version,
        event="canary" if traffic else "promoted",
        traffic=traffic,
        reason=reason,
    )


def rollback(
    engine: Engine, model: str, reason: str, model_version: str | None = None
) -> tuple[str, str | None]:
    """Roll a version back, the champion unless one is named; return (its name, the champion now).

    Raises:
        ModelError: the model has no champion, or the named version neither serves nor is on its
            way.
        EngineError: the views do not show the event after half a minute.
    """
    if model_version is None:
        taken = _champion(engine, model)
        if taken is None:
            raise ModelError(f"model: no version of {model!r} serves; see headrace versions")
    else:
        taken = model_version
        rows = engine.rows(
            "select model_version from headrace.model_versions where model = %s and status in "
            "('trained', 'shadow', 'canary', 'champion', 'superseded') order by changed_at",
            [model],
        )
        _check_one_of("version", taken, [row["model_version"] for row in rows], "none is known")
    _append(engine, model, model_version=taken, event="rolled_back", reason=reason)
    return taken, _champion(engine, model)


def published_version(
    engine: Engine, model: str, model_version: str | None = None
) -> tuple[str, str]:
    """Return the name and the address of a published version; of the champion where none is named.

    Raises:
        ModelError: it is not published, or the model has no champion.
    """
    wanted = model_version or _champion(engine, model)
    if wanted is None:
        raise ModelError(f"model: no version of {model!r} serves; see headrace versions")
    published = _published(engine, model)
    _check_published(wanted, published)
    return wanted, published[wanted]


def _published(engine: Engine, model: str) -> dict[str, str]:
    """The addresses of the published versions, the oldest first."""
    rows = engine.rows(
        "select model_version, artifact_uri from headrace.model_versions "
        "where model = %s and artifact_uri is not null order by published_at",
        [model],
    )
    return {row["model_version"]: row["artifact_uri"] for row in rows}


def _check_published(model_version: str, published: Iterable[str]) -> None:
    _check_one_of("model_version", model_version, published, "none is published")


def _check_one_of(field: str, given: str, names: Iterable[str], where_none: str) -> None:
    allowed = [*names]
    if given not in allowed:
        raise ModelError(
            f"{field}: must be one of {', '.join(allowed) or where_none}, got {given!r}"
        )


def _champion(engine: Engine, model: str) -> str | None:
    rows = engine.rows(
        "select model_version from headrace.serving_plan where model = %s and variant = 'champion'",
        [model],
    )
    return rows[0]["model_version"] if rows else None


def rolls_out(engine: Engine, model: str) -> bool:
    """Whether the conductor brings a new version of the model into service, in steps.

    It also waits while performative_check halts the loop. Else it becomes champion at once.
    """
    rows = engine.rows(
        """
        select policies.rollout != 'on' or (
            champions.model is not null
            and (
                policies.shadow_pairs > 0 or policies.canary_steps is not null
                or policies.canary_allocation = 'thompson'
            )
        ) or coalesce(checks.halts, false) as in_steps
        from headrace.model_policies as policies
        left join headrace.champions as champions on policies.model = champions.model
        left join headrace.performative_check as checks on policies.model = checks.model
        where policies.model = %s
        """,
        [model],
    )
    return bool(rows and rows[0]["in_steps"])


def next_event(engine: Engine, model: str, **fields: Any) -> ModelEvent:
    """Return a model event at the time of the model's clock, later than every earlier model event.

    Raises:
        ContractError: a field is not allowed.
    """
    latest = engine.rows(
        """
        select greatest(
            max(events.event_time) + interval '00:00:00.000001', max(clock.event_clock)
        ) as time
        from events.model_events as events
        left join headrace.model_clock as clock on events.model = clock.model
        where events.model = %s
        """,
        [model],
    )[0]["time"]
    event = parse("model_events", {"model": model, "event_time": latest.isoformat(), **fields})
    assert isinstance(event, ModelEvent)
    return event


def _append(engine: Engine, model: str, **fields: Any) -> None:
    """Store a model event that is later than all others, and wait until the views show it.

    A step that the conductor took meanwhile would else have the same time, or a later one, and win.
    """
    if engine.settings.kafka:
        event = next_event(engine, model, **fields)
        with EventLog(engine) as log:
            log.append("model_events", [event])
        _wait_for(engine, event.event_id)
        return
    with closing(TableWriter(engine)) as writer:
        for _ in range(MOST_TRIES):
            event = next_event(engine, model, **fields)
            row = event_row("model_events", event)
            if writer.write_if([row], partial(_is_latest, event=event)):
                return
    raise EngineError(f"{model!r} gets one event after the other: try again")


_SAME_OR_LATER = """
select count(*) as events from events.model_events
where model = %s and event_time >= %s and event_id != %s
"""


def _is_latest(connection: Connection, event: ModelEvent) -> bool:
    """Whether no other event of the model is as late. The conductor waits here, too."""
    take_transaction_lock(connection, event.model)
    row = connection.execute(
        _SAME_OR_LATER, [event.model, event.event_time, event.event_id]
    ).fetchone()
    return row == (0,)


def _wait_for(engine: Engine, event_id: str) -> None:
    """Wait until the views show an event, which takes a moment through Kafka."""
    deadline = time.monotonic() + VISIBLE_TIMEOUT_S
    query = "select event_id from events.model_events where event_id = %s"
    while not engine.rows(query, [event_id]):
        if time.monotonic() > deadline:
            raise EngineError(
                f"event {event_id} was sent, but the views do not show it after "
                f"{VISIBLE_TIMEOUT_S:.0f} s: see headrace.ingest_lag and headrace.rejected_events"
            )
        time.sleep(0.05)

"""Promotion and rollback by hand: one more event, never a change of what was."""

from __future__ import annotations

import time
from typing import Any

from headrace.engine import Engine
from headrace.errors import EngineError, ModelError
from headrace.events.contract import ModelEvent, parse
from headrace.events.log import EventLog

VISIBLE_TIMEOUT_S = 30.0


def promote(
    engine: Engine, model: str, model_version: str, *, traffic: float | None = None
) -> None:
    """Have a published version serve: all requests, or as a canary the share `traffic` in (0, 1).

    Raises:
        ModelError: there is no such version with an artifact, or the share is out of range.
        EngineError: the views do not know of the event after half a minute.
    """
    if traffic is not None and not 0 < traffic < 1:
        raise ModelError(f"traffic: must be a share in (0, 1), got {traffic}")
    known = engine.rows(
        "select model_version from headrace.model_versions "
        "where model = %s and artifact_uri is not null order by published_at",
        [model],
    )
    names = [row["model_version"] for row in known]
    if model_version not in names:
        allowed = ", ".join(names) or "none is published"
        raise ModelError(f"model_version: must be one of {allowed}, got {model_version!r}")
    _tell(
        engine,
        model,
        model_version=model_version,
        event="canary" if traffic else "promoted",
        traffic=traffic,
        reason="by hand",
    )


def rollback(engine: Engine, model: str, reason: str) -> tuple[str, str | None]:
    """Take the champion back and return (its name, the version that serves now).

    Raises:
        ModelError: no version of the model serves.
        EngineError: the views do not know of the event after half a minute.
    """
    champion = _champion(engine, model)
    if champion is None:
        raise ModelError(f"model: no version of {model!r} serves; see headrace versions")
    _tell(engine, model, model_version=champion, event="rolled_back", reason=reason)
    return champion, _champion(engine, model)


def _champion(engine: Engine, model: str) -> str | None:
    rows = engine.rows(
        "select model_version from headrace.serving_plan where model = %s and variant = 'champion'",
        [model],
    )
    return rows[0]["model_version"] if rows else None


def _tell(engine: Engine, model: str, **fields: Any) -> None:
    """Store one model event, dated by the model's own clock and after all that were before it.

    Returns when the views know of it.
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
    with EventLog(engine) as log:
        log.append("model_events", [event])
    assert isinstance(event, ModelEvent)
    _wait_for(engine, event.event_id)


def _wait_for(engine: Engine, event_id: str) -> None:
    """Return once the views know of an event, which takes a moment where it goes through Kafka."""
    deadline = time.monotonic() + VISIBLE_TIMEOUT_S
    query = "select event_id from events.model_events where event_id = %s"
    while not engine.rows(query, [event_id]):
        if time.monotonic() > deadline:
            raise EngineError(
                f"event {event_id} was sent, but the views do not know of it after "
                f"{VISIBLE_TIMEOUT_S:.0f} s: see headrace.ingest_lag and headrace.rejected_events"
            )
        time.sleep(0.05)

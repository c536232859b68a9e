"""What triggers and alerts there were: views tell only what is now, so trainers note it down."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row
from psycopg.sql import SQL

from headrace.control.claims import Trigger
from headrace.engine import Engine

_KEPT = """
select trigger_id, obstacle, reason, held_back_by, first_seen_at
from control.trigger_history
where {}
"""
# Numbers and times in what holds a trigger back: without them it is the same obstacle.
_NUMBER = re.compile(r"\d[\d:. -]*\d|\d")


def note_triggers(engine: Engine, triggers: Sequence[Trigger]) -> None:
    """Keep why triggers are due, or what holds them back, in ``control.trigger_history``."""
    if not triggers:
        return
    known, ids = engine.dialect.among(
        SQL("trigger_id"), SQL("text"), [trigger.trigger_id for trigger in triggers]
    )
    with engine.connect(row_factory=dict_row) as connection:
        rows = connection.execute(SQL(_KEPT).format(known), ids).fetchall()
    kept = {(row["trigger_id"], row["obstacle"]): row for row in rows}
    changed = []
    for trigger in triggers:
        obstacle = _NUMBER.sub("…", trigger.held_back_by or "")
        before = kept.get((trigger.trigger_id, obstacle))
        told = (trigger.reason, trigger.held_back_by)
        if before is None or (before["reason"], before["held_back_by"]) != told:
            changed.append(
                {
                    "trigger_id": trigger.trigger_id,
                    "obstacle": obstacle,
                    "model": trigger.model,
                    "reason": trigger.reason,
                    "held_back_by": trigger.held_back_by,
                    "first_seen_at": before["first_seen_at"] if before else trigger.event_clock,
                    "last_seen_at": trigger.event_clock,
                }
            )
    _put(engine, "control.trigger_history", ["trigger_id", "obstacle"], changed)


def note_alerts(engine: Engine) -> None:
    """Keep since when alerts fire, and when they cleared, in ``control.alert_log``."""
    clocks: dict[str, datetime] = {
        row["model"]: row["event_clock"]
        for row in engine.rows("select model, event_clock from headrace.model_clock")
    }
    shown = {
        (row["model"], row["alert"], row["subject"]): row
        for row in engine.rows(
            "select model, alert, subject, since, severity, event_clock from headrace.alerts"
        )
    }
    # Two that note at once may both open an alert: it then has two rows, which end together.
    rows_open = engine.rows(
        "select model, alert, subject, since, severity, last_seen_at from control.alert_log "
        "where cleared_at is null"
    )
    opened = {(row["model"], row["alert"], row["subject"]): row for row in rows_open}
    names = ("model", "alert", "subject", "since", "severity")
    rows = [
        {**{name: row[name] for name in names}, "last_seen_at": row["event_clock"],
         "cleared_at": None}
        for key, row in shown.items()
        if key not in opened or opened[key]["last_seen_at"] != row["event_clock"]
    ]  # fmt: skip
    rows += [
        {**row, "cleared_at": clocks.get(row["model"], row["last_seen_at"])}
        for row in rows_open
        if (row["model"], row["alert"], row["subject"]) not in shown
    ]
    _put(engine, "control.alert_log", ["model", "alert", "subject", "since"], rows)


def _put(engine: Engine, table: str, key: list[str], rows: list[dict[str, Any]]) -> None:
    if rows:
        with engine.writing() as connection:
            engine.dialect.put(connection, table, key, rows)

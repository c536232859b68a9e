"""What alerted and what held triggers back is kept, on both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.control import history
from headrace.control.claims import Trigger, wanted_triggers
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from tests.support.policies import set_policies

START = datetime(2024, 6, 1, tzinfo=UTC)


def test_why_a_trigger_waited_and_was_due_survives_it(either: Engine) -> None:
    waits = Trigger("m", "m/1", "20 new labels", "v1", held_back_by="20 labels, of at least 100",
                    event_clock=START)  # fmt: skip
    more = replace(waits, reason="30 new labels", held_back_by="30 labels, of at least 100",
                   event_clock=START + timedelta(hours=1))  # fmt: skip
    due = replace(waits, reason="200 new labels", held_back_by=None,
                  event_clock=START + timedelta(hours=2))  # fmt: skip
    for seen in ([waits], [waits], [more], [due], [due], []):
        history.note_triggers(either, seen)
    rows = either.rows("select * from headrace.held_triggers")
    assert [
        (row["reason"], row["held_back_by"], row["first_seen_at"], row["last_seen_at"])
        for row in rows
    ] == [(more.reason, more.held_back_by, START, more.event_clock)]
    step = {"model": "m", "model_version": "v2", "trigger_id": "m/1", "event_time": START}
    with either.writing() as connection:
        for event in ("trained", "promoted"):
            row = {**step, "event": event, "event_id": event, "reason": "better"}
            either.dialect.put(connection, "events.model_events", ["event_id"], [row])
    (told,) = either.rows("select reason, outcome from headrace.trigger_log")
    assert told == {"reason": "200 new labels", "outcome": "better"}
    (version,) = either.rows("select reason, due_because from headrace.model_versions")
    assert version == {"reason": "better", "due_because": "200 new labels"}


def test_what_is_wanted_is_due_unless_held_back(engine: Engine) -> None:
    set_policies(engine, learn="on", retrain_every="1 minute", min_sample="1000")
    with EventLog(engine) as log:
        log.append("inference", [asked(0), asked(60)])
        (trigger,) = wanted_triggers(engine)
        history.note_triggers(engine, [trigger])
    (row,) = engine.rows("select obstacle, held_back_by, first_seen_at from headrace.held_triggers")
    assert row["held_back_by"] == trigger.held_back_by and row["obstacle"]
    assert row["first_seen_at"] == START + timedelta(minutes=60)


def asked(minutes: int, **fields: Any) -> Any:
    at = (START + timedelta(minutes=minutes)).isoformat()
    return parse("inference", {"model": "m", "model_version": "v1", "event_time": at, **fields})


def test_alerts_say_since_when_and_what_only_hovers_is_none(either: Engine, engine: Engine) -> None:
    """Errors of 4 % hover below a threshold of 5 %, but only once they had been above it."""
    set_policies(
        engine, min_sample="10", rollback_window="10 minutes", max_error_rate="0.05",
        clear_ratio="0.7",
    )  # fmt: skip

    def shown(minutes: int, errors: int) -> list[tuple[str, datetime]]:
        failed = [{"error": "timeout"}] * errors
        with EventLog(engine) as log:
            log.append(
                "inference",
                [asked(minutes, **fields) for fields in [*failed, *[{}] * (100 - errors)]],
            )
        history.note_alerts(either)
        rows = either.rows("select state, since from headrace.alerts where alert = 'errors'")
        return [(row["state"], row["since"]) for row in rows]

    assert shown(0, 4) == []
    assert shown(15, 9) == []  # above 5 %, by chance
    began = START + timedelta(minutes=30)
    assert shown(30, 20) == [("firing", began)]
    assert shown(60, 18) == [("firing", began)]
    assert shown(90, 4) == [("hovering", began)]
    assert shown(120, 0) == []
    assert shown(150, 4) == []
    assert shown(180, 20) == [("firing", START + timedelta(minutes=180))]
    logged = either.rows(
        "select since, cleared_at, severity from headrace.alert_log "
        "where alert = 'errors' order by since"
    )
    assert logged == [
        {"since": began, "cleared_at": START + timedelta(minutes=120), "severity": "critical"},
        {"since": START + timedelta(minutes=180), "cleared_at": None, "severity": "critical"},
    ]

"""Claims on RisingWave: rows of attempts and heartbeats, without locks or transactions.

An attempt at a trigger is a row of ``control.attempts``, of which the first of its key stays. A
heartbeat is a row of ``control.heartbeats``, of which the last one of its key stays. The view
``control.claims`` shows the latest attempt of each trigger with its heartbeat.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from psycopg.rows import dict_row

from headrace.engine import Engine
from headrace.engine.dialect import Connection, Rows, inserting


class RisingWaveClaims:
    """A `ClaimTable`. Of several workers that insert the same attempt, the first one has it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lease = timedelta(seconds=engine.settings.lease_s)

    def pass_on(self, triggers: Rows) -> None:
        """Insert them into the table behind the change feed and the topic."""
        with self._engine.connect() as connection:
            connection.execute(*inserting("control.due_triggers", triggers))

    def take(
        self, *, trigger_id: str, model: str, worker: str, run_id: str
    ) -> dict[str, Any] | None:
        """Insert an attempt, then read whose it is.

        A take-over then also reads whether the attempt before it has sent a heartbeat meanwhile,
        just as that one looks for a later attempt in `renew`. Each of the two writes, flushes and
        then reads, so at least one of them sees the other and gives up.
        """
        with self._engine.connect(row_factory=dict_row) as connection:
            held = _held(connection, trigger_id)
            if held is None:
                attempt = 1
                connection.execute(_FIRST_ATTEMPT, [trigger_id, worker, run_id, model])
            elif self._has_lapsed(held):
                attempt = held["attempt"] + 1
                connection.execute(_NEXT_ATTEMPT, [attempt, worker, trigger_id, held["attempt"]])
            else:
                return None
            self._engine.dialect.flush(connection)
            taken: dict[str, Any] | None = connection.execute(
                _ATTEMPT, [trigger_id, attempt]
            ).fetchone()
            if taken is None or taken["worker"] != worker:
                return None
            if attempt > 1:
                before = connection.execute(_BEAT, [trigger_id, attempt - 1]).fetchone()
                if before is not None and not self._has_lapsed(before):
                    return None
            return taken

    def renew(self, trigger_id: str, attempt: int, worker: str) -> bool:
        with self._engine.connect(row_factory=dict_row) as connection:
            connection.execute(_SHOW, [trigger_id, attempt])
            self._engine.dialect.flush(connection)
            held = _held(connection, trigger_id)
        return held is not None and ((held["attempt"], held["worker"]) == (attempt, worker))

    def finish(self, connection: Connection, trigger_id: str, attempt: int, worker: str) -> bool:
        """End the attempt. A later one may have begun since `renew`: nothing holds it off."""
        if connection.execute(_LATEST, [trigger_id, attempt, worker]).fetchone() is None:
            return False
        connection.execute(_END, [trigger_id, attempt])
        return True

    def _has_lapsed(self, held: dict[str, Any]) -> bool:
        silent: timedelta = held["moment"] - held["heartbeat_at"]
        return held["finished_at"] is None and silent > self._lease


def _held(connection: Connection, trigger_id: str) -> dict[str, Any] | None:
    held: dict[str, Any] | None = connection.execute(_HELD, [trigger_id]).fetchone()
    return held


_FIRST_ATTEMPT = """
insert into control.attempts
    (trigger_id, attempt, model, worker, run_id, claimed_at, known_at, event_clock)
select %s, 1, model, %s, %s, now(), now(), event_clock
from headrace.model_clock
where model = %s
"""
_NEXT_ATTEMPT = """
insert into control.attempts
    (trigger_id, attempt, model, worker, run_id, claimed_at, known_at, event_clock)
select trigger_id, %s, model, %s, run_id, now(), known_at, event_clock
from control.attempts
where trigger_id = %s and attempt = %s
"""
_ATTEMPT = """
select trigger_id, model, worker, run_id, attempt, claimed_at, known_at, event_clock
from control.attempts
where trigger_id = %s and attempt = %s
"""
_HELD = """
select attempt, worker, heartbeat_at, finished_at, now() as moment
from control.claims
where trigger_id = %s
"""
_LATEST = """
select trigger_id
from control.claims
where trigger_id = %s and attempt = %s and worker = %s
"""
_BEAT = """
select heartbeat_at, finished_at, now() as moment
from control.heartbeats
where trigger_id = %s and attempt = %s
"""
_SHOW = """
insert into control.heartbeats (trigger_id, attempt, heartbeat_at) values (%s, %s, now())
"""
_END = """
insert into control.heartbeats (trigger_id, attempt, heartbeat_at, finished_at)
values (%s, %s, now(), now())
"""

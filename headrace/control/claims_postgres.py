"""Claims on PostgreSQL: one row of ``control.claims`` a trigger, taken by one statement."""

from __future__ import annotations

from typing import Any

from psycopg.rows import dict_row

from headrace.engine import Engine
from headrace.engine.dialect import Connection, Rows


class PostgresClaims:
    """A `ClaimTable`. Of several workers that insert the row at once, one does."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def pass_on(self, triggers: Rows) -> None:
        """Do nothing: other systems query headrace.retrain_trigger."""

    def take(
        self, *, trigger_id: str, model: str, worker: str, run_id: str
    ) -> dict[str, Any] | None:
        """Insert or take over the row, in the transaction that holds off the end of batches."""
        with (
            self._engine.connect() as connection,
            connection.transaction(),
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            known_at = cursor.execute("select events.ingested_up_to() as moment").fetchone()
            assert known_at is not None
            return cursor.execute(
                _TAKE,
                {
                    "trigger_id": trigger_id,
                    "model": model,
                    "worker": worker,
                    "run_id": run_id,
                    "known_at": known_at["moment"],
                    "lease_s": self._engine.settings.lease_s,
                },
            ).fetchone()

    def renew(self, trigger_id: str, attempt: int, worker: str) -> bool:
        with self._engine.connect() as connection:
            renewed = connection.execute(
                """
                update control.claims set heartbeat_at = clock_timestamp()
                where trigger_id = %s and worker = %s and attempt = %s and finished_at is null
                """,
                [trigger_id, worker, attempt],
            )
            return renewed.rowcount == 1

    def finish(self, connection: Connection, trigger_id: str, attempt: int, worker: str) -> bool:
        """Update the row, which a take-over waits for; a claim that we finished stays ours."""
        finished = connection.execute(
            """
            update control.claims set finished_at = coalesce(finished_at, clock_timestamp())
            where trigger_id = %s and worker = %s and attempt = %s
            """,
            [trigger_id, worker, attempt],
        )
        return finished.rowcount == 1


_TAKE = """
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
"""

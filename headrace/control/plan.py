"""Which versions serve, as the database says, told within a second of a change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from headrace.engine import Engine
from headrace.errors import EngineError

log = logging.getLogger(__name__)

CHANNEL = "headrace_model_events"
MAX_BACKOFF_S = 5.0
FORMER = "former"


@dataclass(frozen=True, slots=True, order=True)
class Served:
    """One row of ``headrace.serving_plan``. `traffic` is a share of requests in [0, 1].

    A `former` one was the champion before: it stands in for one that cannot be loaded.
    """

    model: str
    model_version: str
    variant: str  # champion, canary, shadow or former
    traffic: float
    artifact_uri: str


def serving_plan(connection: psycopg.Connection[object]) -> tuple[Served, ...]:
    """Read the versions that should serve now, in a fixed order, then former ones, newest first."""
    with connection.cursor(row_factory=class_row(Served)) as cursor:
        rows = cursor.execute(_PLAN).fetchall()
    former = [row for row in rows if row.variant == FORMER]
    return (*sorted(row for row in rows if row.variant != FORMER), *former)


# A superseded version is one that was promoted and never taken back.
_PLAN = f"""
select model, model_version, variant, traffic, artifact_uri
from (
    select model, model_version, variant, traffic, artifact_uri, since
    from headrace.serving_plan
    union all
    select model, model_version, '{FORMER}', 0, artifact_uri, changed_at
    from headrace.model_versions
    where status = 'superseded' and artifact_uri is not null
) as versions
order by model, since desc, model_version desc
"""


class PlanFollower:
    """Calls `on_plan` from a thread of its own: with the plan at start, and when it may differ.

    It listens, where the engine tells of changes, and looks again every `poll_s` seconds in any
    case; `on_plan` is called each time, so that it may retry what it could not do before. A context
    manager.
    """

    def __init__(
        self,
        engine: Engine,
        on_plan: Callable[[tuple[Served, ...]], None],
        poll_s: float | None = None,
    ) -> None:
        self._engine = engine
        self._on_plan = on_plan
        self._poll_s = poll_s or engine.settings.poll_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-plan", daemon=True)

    def __enter__(self) -> PlanFollower:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._poll_s
        while not self._stopping.is_set():
            try:
                with self._engine.connect(application_name="headrace plan") as connection:
                    heard = self._engine.dialect.listen(connection, CHANNEL)
                    while not self._stopping.is_set():
                        self._on_plan(serving_plan(connection))
                        pause = self._poll_s
                        self._wait(heard)
            except (psycopg.Error, EngineError) as error:
                reason = " ".join(str(error).split())
                log.warning("cannot follow the serving plan, trying again: %s", reason)
                self._stopping.wait(pause)
                pause = min(pause * 2, MAX_BACKOFF_S)

    def _wait(self, heard: Callable[[float], bool]) -> None:
        """Return on a notification, after `poll_s`, or soon after a stop."""
        left = self._poll_s
        while left > 0 and not self._stopping.is_set():
            step = min(left, 0.2)
            if heard(step):
                return
            left -= step

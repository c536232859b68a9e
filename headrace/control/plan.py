"""The serving plan: which versions serve, read again within a second of a change."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg.rows import class_row

from headrace.engine import Engine
from headrace.errors import EngineError, one_line

logger = logging.getLogger(__name__)

CHANNEL = "headrace_model_events"
MAX_BACKOFF_S = 5.0
CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
HOLDOUT, FORMER = "holdout", "former"


@dataclass(frozen=True, slots=True, order=True)
class Served:
    """One row of ``headrace.serving_plan``. `traffic` is a share of units in [0, 1].

    There are rows beside it. A version of variant `former` was the champion before; it serves in
    place of a champion that cannot be loaded. The first one of variant `holdout` that can be loaded
    answers the units that the policy `holdback` keeps from the loop.
    """

    model: str
    model_version: str
    variant: str  # champion, canary, shadow, holdout or former
    traffic: float
    artifact_uri: str


def serving_plan(connection: psycopg.Connection[object]) -> tuple[Served, ...]:
    """Return the versions that should serve, sorted, then those that may stand in.

    These are the versions of the holdback, the oldest first, and former champions, the newest
    first. From ``headrace.serving_plan``, ``headrace.model_versions`` and
    ``headrace.model_policies``.
    """
    with connection.cursor(row_factory=class_row(Served)) as cursor:
        rows = cursor.execute(_PLAN).fetchall()
    former = [row for row in rows if row.variant == FORMER]
    holdouts = [row for row in reversed(rows) if row.variant == HOLDOUT]
    told = sorted(row for row in rows if row.variant not in (FORMER, HOLDOUT))
    return (*told, *holdouts, *former)


# A superseded version was promoted and never rolled back.
_PLAN = f"""
select model, model_version, variant, traffic, artifact_uri
from (
    select model, model_version, variant, traffic, artifact_uri, since
    from headrace.serving_plan
    union all
    select model, model_version, '{FORMER}', 0, artifact_uri, changed_at
    from headrace.model_versions
    where status = 'superseded' and artifact_uri is not null
    union all
    select
        versions.model, versions.model_version, '{HOLDOUT}', policies.holdback,
        versions.artifact_uri, versions.published_at
    from headrace.model_policies as policies
    inner join headrace.model_versions as versions on policies.model = versions.model
    where
        policies.holdback > 0 and versions.artifact_uri is not null
        and case
            when policies.holdback_version is null
                then versions.status in ('{CHAMPION}', 'superseded')
            else versions.model_version = policies.holdback_version
        end
) as versions
order by model, since desc, model_version desc
"""


class PlanFollower:
    """Calls `on_plan` with the serving plan, from a thread of its own.

    It does so at the start, after each notification of the engine and every `poll_s` seconds, even
    if nothing changed, so that `on_plan` can retry what failed before. A context manager.
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
        # A loop and not `tenacity`: it succeeds many times, and each success resets the pause.
        pause = self._poll_s
        while not self._stopping.is_set():
            try:
                with self._engine.connect(application_name="headrace plan") as connection:
                    notified = self._engine.dialect.listen(connection, CHANNEL)
                    while not self._stopping.is_set():
                        self._on_plan(serving_plan(connection))
                        pause = self._poll_s
                        self._wait(notified)
            except Exception as error:
                if isinstance(error, psycopg.Error | EngineError):
                    reason = one_line(error)
                    logger.warning("cannot read the serving plan, trying again: %s", reason)
                else:
                    logger.exception("the serving plan is not followed, trying again")
                self._stopping.wait(pause)
                pause = min(pause * 2, MAX_BACKOFF_S)

    def _wait(self, notified: Callable[[float], bool]) -> None:
        """Wait for a notification, `poll_s` or a stop."""
        left = self._poll_s
        while left > 0 and not self._stopping.is_set():
            step = min(left, 0.2)
            if notified(step):
                return
            left -= step

"""The conductor: takes the steps that ``rollout_trigger`` and ``rollback_trigger`` say are due.

Each step is a model event with its reason and the numbers that it was decided by. It is stored only
if the model has no other event than those that it was decided on; so of two conductors, or of a
conductor and a person, one acts, and a step is taken once, whoever is killed.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

import psycopg

from headrace.control.lease import take_transaction_lock, try_session_lock
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.errors import EngineError, one_line
from headrace.events.contract import ModelEvent, parse
from headrace.events.log import row_writer
from headrace.events.rows import event_row
from headrace.events.tables import TableWriter

log = logging.getLogger(__name__)

# It rests at least this many times as long as its last look took, as the views are computed then.
REST = 3
LONGEST_REST_S = 60.0
# Through Kafka the views show a step after a while; so long it is not sent again.
UNDER_WAY_S = 60.0

_ROLLBACKS = """
select
    triggers.model, triggers.model_version, 'rolled_back' as event, null::float as traffic,
    triggers.reason || '; back to ' || triggers.target_version as reason,
    triggers.target_version, triggers.predictions, triggers.errors, triggers.error_rate,
    triggers.slow_rate, triggers.earlier_slow_rate, triggers.output_psi,
    triggers.canary_predictions, triggers.labels, triggers.mean_reward,
    triggers.champion_mean_reward, triggers.canary_error_rate, triggers.champion_error_rate,
    triggers.canary_slow_rate, triggers.champion_slow_rate
from headrace.rollback_trigger as triggers
inner join headrace.model_policies as policies on triggers.model = policies.model
where
    triggers.due and triggers.action = 'rollback' and policies.learns
    and policies.rollout != 'pinned'
order by triggers.model, triggers.variant, triggers.model_version
"""
_ROLLOUTS = """
select
    model, model_version, next_event as event, next_traffic as traffic, reason,
    champion_version, predictions, labels, mean_reward, champion_mean_reward, difference,
    best_probability,
    case
        when stage = 'canary' and next_event = 'canary' and best_probability is not null
            then 'thompson'
    end as allocation
from headrace.rollout_trigger
where due
order by model, since, model_version
"""
_SEEN = """
select
    events.model,
    count(*) as seen,
    greatest(
        max(events.event_time) + interval '00:00:00.000001', max(clock.event_clock)
    ) as event_time
from events.model_events as events
left join headrace.model_clock as clock on events.model = clock.model
group by events.model
"""
_TOLD = ("model", "model_version", "event", "traffic", "reason")


@dataclass(frozen=True, slots=True)
class Step:
    """A step that is due. `seen` is how many events the model had when that was found."""

    model: str
    model_version: str
    event: str
    traffic: float | None
    reason: str
    numbers: Mapping[str, Any]
    seen: int
    event_time: datetime

    def as_event(self) -> ModelEvent:
        """Return the model event; a step that is taken again has the same id."""
        name = f"{self.model}/{self.model_version}/{self.seen}/{self.event}"
        event = parse(
            "model_events",
            {
                "model": self.model,
                "model_version": self.model_version,
                "event": self.event,
                "event_id": f"rollout-{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}",
                "event_time": self.event_time.isoformat(),
                "traffic": self.traffic,
                "metrics": {"rollout": dict(self.numbers)},
                "reason": self.reason,
            },
        )
        assert isinstance(event, ModelEvent)
        return event

    def __str__(self) -> str:
        share = f" at {100 * self.traffic:g} %" if self.traffic else ""
        return f"{self.model} {self.model_version} {self.event}{share}: {self.reason}"


def due_steps(engine: Engine) -> list[Step]:
    """Return the steps that are due now, at most one a model; what does harm comes first."""
    # Before the triggers: what happens in between makes the step of another state, and is refused.
    seen = {row["model"]: row for row in engine.rows(_SEEN)}
    steps: dict[str, Step] = {}
    for query in (_ROLLBACKS, _ROLLOUTS):
        for row in engine.rows(query):
            model = row["model"]
            if model in seen and model not in steps:
                numbers = {
                    name: value
                    for name, value in row.items()
                    if name not in _TOLD and value is not None
                }
                steps[model] = Step(
                    **{name: row[name] for name in _TOLD},
                    numbers=numbers,
                    seen=seen[model]["seen"],
                    event_time=seen[model]["event_time"],
                )
    return list(steps.values())


class Conductor:
    """Takes due steps. A context manager.

    On PostgreSQL one of several conductors leads, by a lock that its death releases; the others
    wait.

    Args:
        say: is given a line for a person after each step.
    """

    def __init__(self, engine: Engine, say: Callable[[str], None] = log.info) -> None:
        self._engine = engine
        self._say = say
        self._writer = TableWriter(engine)
        self._sent: dict[str, float] = {}  # when a step was last sent to Kafka, by its id

    def __enter__(self) -> Conductor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def watch(self, stop: threading.Event) -> None:
        """Lead, once no other conductor does, and take steps until `stop` is set."""
        rest = 0.0
        while not stop.is_set():
            try:
                with self._engine.connect(application_name="headrace conductor") as lock:
                    leads = False
                    while not stop.is_set():
                        began = time.monotonic()
                        leads = self._leads(lock, leads)
                        if not leads or not self.take_steps():
                            took = time.monotonic() - began
                            stop.wait(max(self._engine.settings.poll_s, REST * took))
                        rest = 0.0
            except (EngineError, psycopg.Error) as error:
                log.warning("the database does not answer, trying again: %s", one_line(error))
            except Exception:
                log.exception("the conductor goes on")
            self._writer.close()
            rest = min(max(1.0, 2 * rest), LONGEST_REST_S)
            stop.wait(rest)

    def _leads(self, lock: Connection, already: bool) -> bool:
        """Whether this conductor leads. A lost connection is a lost lock, and an error here."""
        if already or self._engine.dialect.name != "postgres":
            lock.execute("select 1")
            return True
        return try_session_lock(lock, "headrace conductor")

    def take_steps(self) -> list[Step]:
        """Take the steps that are due, and return those that this conductor took.

        Raises:
            EngineError, psycopg.Error: the database does not answer.
            ContractError: a step is no event, as its model's name is not allowed.
        """
        taken = []
        for step in due_steps(self._engine):
            if self._take(step):
                self._say(str(step))
                taken.append(step)
        return taken

    def _take(self, step: Step) -> bool:
        row = event_row("model_events", step.as_event())
        if self._engine.settings.kafka:
            now = time.monotonic()
            self._sent = {name: at for name, at in self._sent.items() if now < at + UNDER_WAY_S}
            if row.id in self._sent:
                return False
            with closing(row_writer(self._engine)) as writer:
                writer.write([row])
            self._sent[row.id] = now
        elif not self._writer.write_if([row], lambda connection: _is_next(connection, step)):
            return False
        if row.receipt is not None and row.receipt.status == "rejected":
            log.error("%s: was rejected: %s", step, row.receipt.reason)
            return False
        return True


_OTHERS = """
select count(*) as events from events.model_events
where model = %s and xmin != pg_current_xact_id()::xid
"""


def _is_next(connection: Connection, step: Step) -> bool:
    """Whether the model has no event but those that the step was decided on, and its own.

    Conductors, and people (`lifecycle`), that write at once wait for each other here.
    """
    take_transaction_lock(connection, step.model)
    row = connection.execute(_OTHERS, [step.model]).fetchone()
    return row == (step.seen,)

"""The event log: everything that happened, acknowledged after the commit.

Callers put events into a bounded queue; a writer takes all that is waiting, commits it as one
batch and then resolves the futures. While the views are brought up to date for one batch, a second
writer copies the next one in, but for ids that are in the first one, too. A lost connection is
retried until it is back, which counts nothing twice because ids are unique.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

import msgspec
import psycopg

from headrace.engine import Engine
from headrace.errors import BusyError, ContractError, EngineError, one_line
from headrace.events.contract import TOPICS, Event, Topic
from headrace.events.rows import ID_AT, Row, encoded, json_text, rejection
from headrace.events.tables import Writer

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0
# How often what panes hold beyond their retention is dropped.
EXPIRE_EVERY_S = 60.0
BACKOFF_S = (0.05, 2.0)
# Panes are kept for one batch at a time: a third writer would only wait, too.
WRITERS = 2


class Refused(msgspec.Struct, frozen=True):
    """An event that the database or Kafka would not take, and why; `index` counts from 0."""

    index: int
    reason: str


class Conflict(msgspec.Struct, frozen=True):
    """An event that was kept out: its id was stored before, with other content.

    `index` counts from 0; `fields` are those that differ.
    """

    index: int
    fields: tuple[str, ...]


class Receipt(msgspec.Struct, frozen=True):
    """What became of the events of one call, after the commit."""

    accepted: int = 0
    duplicates: int = 0
    conflicts: tuple[Conflict, ...] = ()
    refused: tuple[Refused, ...] = ()


class _Entry:
    """The rows of one call, its events first, their ids, and the future that its caller holds."""

    __slots__ = ("events", "future", "ids", "rows", "topic")

    def __init__(self, topic: Topic, rows: list[Row], events: int) -> None:
        self.topic = topic
        self.rows = rows
        self.events = events
        at = ID_AT[topic]
        self.ids: set[str] = {row.values[at] for row in rows[:events]}
        self.future: Future[Receipt] = Future()
        self.future.set_running_or_notify_cancel()  # a queued event can't be called back

    def resolve(self) -> None:
        outcomes = [row.outcome for row in self.rows[: self.events]]
        accepted, duplicates = outcomes.count("accepted"), outcomes.count("duplicate")
        conflicts: list[Conflict] = []
        refused: list[Refused] = []
        if accepted + duplicates < len(outcomes):
            for index, outcome in enumerate(outcomes):
                if outcome == "conflict":
                    differing = tuple(self.rows[index].differing.split(", "))
                    conflicts.append(Conflict(index, differing))
                elif outcome not in ("accepted", "duplicate"):
                    refused.append(Refused(index, str(outcome)))
        self.future.set_result(Receipt(accepted, duplicates, tuple(conflicts), tuple(refused)))


class Destination(Protocol):
    """Where rows go: `headrace.events.tables.Writer`, or that of `headrace.kafka`."""

    def write(self, rows: Sequence[Row]) -> None: ...
    def expire(self) -> None: ...
    def close(self) -> None: ...


class EventLog:
    """The way into the event tables, or the topics of Kafka where the setting `kafka` names one.

    A context manager; leaving it stores all that is queued. Safe to share by threads.
    `linger_ms`, `batch_rows` and `queue_rows` are settings.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._linger_s = engine.settings.linger_ms / 1000
        self._batch_rows = engine.settings.batch_rows
        self._queue_rows = engine.settings.queue_rows
        self._queue: deque[_Entry] = deque()
        self._waiting = 0  # rows in the queue
        self._in_flight: dict[Topic, set[str]] = {topic: set() for topic in TOPICS}
        self._batches_done = 0
        self._crowd = 1  # rows worth waking a writer for
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._taking = threading.Lock()  # one writer at a time waits for events
        self._expires_at = time.monotonic() + EXPIRE_EVERY_S
        self._writing_since: dict[int, float] = {}  # batches under way, by thread
        self._failures: dict[int, str] = {}  # why one of them is tried again
        self._threads = [
            threading.Thread(target=self._run, name=f"headrace-log-{number}", daemon=True)
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def queued(self) -> int:
        """Number of events that wait for a commit."""
        return self._waiting

    @property
    def writing_s(self) -> float:
        """How long the oldest batch under way has been, in seconds; 0 without one."""
        now = time.monotonic()
        return max((now - since for since in list(self._writing_since.values())), default=0.0)

    @property
    def failure(self) -> str:
        """Why a batch under way could not be written and is tried again; empty without one."""
        return next(iter(list(self._failures.values())), "")

    def submit(
        self,
        topic: Topic,
        events: Sequence[Event],
        rejected: Sequence[tuple[object, ContractError]] = (),
        assumed: Sequence[Sequence[str]] = (),
    ) -> Future[Receipt]:
        """Queue checked events of one topic; the future resolves after their commit.

        `rejected` are payloads that broke the contract, and how: they go to ``events.rejected``
        with the same commit and are not counted in the receipt. `assumed` names, event by event,
        the fields that its sender did not say: they make no conflict of a repeated event.

        Raises:
            BusyError: `queue_rows` events are waiting already.
            EngineError: the log is closed. (Also set on the future when the log had to close
                before the database came back.)
        """
        said = assumed or [()] * len(events)
        rows = [
            encoded(topic, event, assumed=names) for event, names in zip(events, said, strict=True)
        ]
        for payload, error in rejected:
            rows.append(rejection(topic, error.field, str(error), json_text(payload)))
        entry = _Entry(topic, rows, len(events))
        with self._changed:
            if self._closing_at is not None:
                raise EngineError("the event log is closed")
            if self._waiting and self._waiting + len(rows) > self._queue_rows:
                raise BusyError(
                    f"{self._waiting} events are waiting to be stored; send again later"
                )
            self._queue.append(entry)
            self._waiting += len(rows)
            if len(self._queue) == 1 or self._waiting >= self._crowd:
                self._changed.notify()
        return entry.future

    def append(self, topic: Topic, events: Sequence[Event]) -> Receipt:
        """Store checked events of one topic and return when they are committed."""
        return self.submit(topic, events).result()

    def reject(self, topic: Topic, payload: object, error: ContractError) -> Future[Receipt]:
        """Queue a payload that broke the contract for ``events.rejected``, with the reason."""
        return self.submit(topic, [], [(payload, error)])

    def close(self) -> None:
        """Store what is queued and stop. Events are given up only when the database stays away."""
        with self._changed:
            if self._closing_at is None:
                self._closing_at = time.monotonic()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        writer = _writer(self._engine)
        while entries := self._take():
            rows = [row for entry in entries for row in entry.rows]
            self._writing_since[threading.get_ident()] = time.monotonic()
            try:
                self._store(writer, rows)
            except Exception as error:
                if not isinstance(error, EngineError):
                    log.exception("could not store %d events", len(rows))
                    writer.close()
                for entry in entries:
                    entry.future.set_exception(error)
                self._land(entries)
            else:
                for entry in entries:
                    entry.resolve()
                self._land(entries)
                self._expire(writer)
            finally:
                del self._writing_since[threading.get_ident()]
                self._failures.pop(threading.get_ident(), None)
        writer.close()

    def _expire(self, writer: Destination) -> None:
        """Keep the panes bounded: who makes them grow prunes them, between two batches."""
        with self._changed:
            if time.monotonic() < self._expires_at:
                return
            self._expires_at = time.monotonic() + EXPIRE_EVERY_S
        try:
            writer.expire()
        except psycopg.Error as error:
            log.warning("could not drop what is beyond its retention: %s", error)
            writer.close()

    def _take(self) -> list[_Entry]:
        """Wait for events and return a batch; an empty one when the log is closed.

        Linger only while fewer wait than the last batch held: the same crowd is likely to be
        back, and a single caller is not kept waiting for company.
        """
        with self._taking, self._changed:
            while not self._queue and self._closing_at is None:
                self._changed.wait()
            deadline = time.monotonic() + self._linger_s
            while self._waiting < self._crowd and self._closing_at is None:
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            while not (entries := self._next_batch()) and self._queue:
                done = self._batches_done
                while self._batches_done == done:
                    self._changed.wait()
            for entry in entries:
                self._in_flight[entry.topic] |= entry.ids
            taken = sum(len(entry.rows) for entry in entries)
            self._waiting -= taken
            self._crowd = max(1, min(taken, self._batch_rows))
            return entries

    def _next_batch(self) -> list[_Entry]:
        """Take the next entries out of the queue, but for those that would wait for each other.

        An id that the other writer is storing keeps its place, and with it whatever repeats an id
        of its entry: the database would have one transaction wait for the other, or both.
        """
        entries: list[_Entry] = []
        held: list[_Entry] = []
        held_ids: dict[Topic, set[str]] = {topic: set() for topic in TOPICS}
        rows = 0
        while self._queue and (not rows or rows + len(self._queue[0].rows) <= self._batch_rows):
            entry = self._queue.popleft()
            rows += len(entry.rows)
            others = (self._in_flight[entry.topic], held_ids[entry.topic])
            if all(entry.ids.isdisjoint(ids) for ids in others):
                entries.append(entry)
            else:
                held.append(entry)
                held_ids[entry.topic] |= entry.ids
        self._queue.extendleft(reversed(held))
        return entries

    def _land(self, entries: Sequence[_Entry]) -> None:
        """Let go of the ids of a batch that is done."""
        with self._changed:
            for entry in entries:
                self._in_flight[entry.topic] -= entry.ids
            self._batches_done += 1
            self._changed.notify_all()

    def _store(self, writer: Destination, rows: Sequence[Row]) -> None:
        """Write until every row has its outcome, over as many connections as that takes."""
        pause, longest = BACKOFF_S
        while rows := [row for row in rows if row.outcome is None]:
            try:
                writer.write(rows)
            except (psycopg.Error, EngineError) as error:
                writer.close()
                closing = self._closing_at
                if closing is not None and time.monotonic() > closing + CLOSE_TIMEOUT_S:
                    log.error("%d events were not stored: %s", len(rows), error)
                    raise EngineError(f"not stored: {error}") from None
                self._failures[threading.get_ident()] = reason = one_line(error)
                log.warning("the log could not write, trying again in %.2f s: %s", pause, reason)
                time.sleep(pause)
                pause = min(pause * 2, longest)


def _writer(engine: Engine) -> Destination:
    if not engine.settings.kafka:
        return Writer(engine)
    from headrace.events.kafka.producer import KafkaWriter

    return KafkaWriter(engine.settings)

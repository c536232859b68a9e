"""The event log: a bounded queue in front of the event tables, answered after the commit.

Two writer threads take turns: each takes all that is queued, commits it as one batch and then
resolves the futures of its callers. While the views are updated for one batch, the other writer
copies the next batch in, except for ids that are also in the first one. When the connection is
lost, the batch is sent again until the database is back; repeated ids are counted once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

import psycopg

from headrace.engine import Engine
from headrace.errors import BusyError, ContractError, EngineError, one_line
from headrace.events.contract import TOPICS, Event, Topic
from headrace.events.rows import (
    ID_AT,
    REJECTED,
    EventRow,
    Receipt,
    event_row,
    json_text,
    rejected_row,
)
from headrace.events.tables import TableWriter

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0
# How often panes drop rows beyond their retention.
EXPIRE_EVERY_S = 60.0
BACKOFF_S = (0.05, 2.0)
# The views are updated for one batch at a time, so a third writer would only wait.
WRITERS = 2


class Filled(NamedTuple):
    """A checked event, `fields` of which its sender did not set.

    These fields may differ when the event is sent again: they make no conflict.
    """

    event: Event
    fields: Sequence[str]


class Rejected(NamedTuple):
    """A payload that breaks the contract. It is stored in ``events.rejected`` with the reason."""

    payload: object
    error: ContractError


Item = Event | Filled | Rejected


class RowWriter(Protocol):
    """Stores rows: `headrace.events.tables.TableWriter`, or `headrace.events.kafka`'s."""

    def write(self, rows: Sequence[EventRow]) -> None: ...
    def expire(self) -> None: ...
    def close(self) -> None: ...


class EventLog:
    """Stores events in the event tables, or in Kafka's topics where the setting `kafka` is set.

    A context manager; leaving it stores what is queued. Threads may share it. The settings
    `linger_ms`, `batch_rows` and `queue_rows` apply.
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
        self._crowd = 1  # rows that wake a writer
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._taking = threading.Lock()  # held by the writer that waits for events
        self._expires_at = time.monotonic() + EXPIRE_EVERY_S
        self._writing_since: dict[int, float] = {}  # start of each thread's batch
        self._failures: dict[int, str] = {}  # why a thread sends its batch again
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
        """Number of items in the queue."""
        return self._waiting

    @property
    def writing_s(self) -> float:
        """Seconds since the oldest batch that is being written began; 0 without one."""
        now = time.monotonic()
        return max((now - since for since in list(self._writing_since.values())), default=0.0)

    @property
    def failure(self) -> str:
        """Why a batch could not be written yet; empty when nothing failed."""
        return next(iter(list(self._failures.values())), "")

    def submit(self, topic: Topic, items: Sequence[Item]) -> Future[list[Receipt]]:
        """Queue items of one topic; after their commit the future has a receipt for each, in order.

        Raises:
            BusyError: `queue_rows` items are queued already.
            EngineError: the log is closed. (Also set on the future when the log was closed before
                the database came back.)
        """
        entry = _Entry(topic, [_row(topic, item) for item in items])
        size = len(entry.rows)
        with self._changed:
            if self._closing_at is not None:
                raise EngineError("the event log is closed")
            if self._waiting and self._waiting + size > self._queue_rows:
                raise BusyError(
                    f"{self._waiting} events are waiting to be stored; send again later"
                )
            self._queue.append(entry)
            self._waiting += size
            if len(self._queue) == 1 or self._waiting >= self._crowd:
                self._changed.notify()
        return entry.future

    def append(self, topic: Topic, items: Sequence[Item]) -> list[Receipt]:
        """Store items of one topic and return their receipts after the commit. Raises as submit."""
        return self.submit(topic, items).result()

    def close(self) -> None:
        """Store what is queued and stop. Items are lost only when the database stays away."""
        with self._changed:
            if self._closing_at is None:
                self._closing_at = time.monotonic()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        writer = row_writer(self._engine)
        while entries := self._take():
            rows = [row for entry in entries for row in entry.rows]
            self._writing_since[threading.get_ident()] = time.monotonic()
            try:
                self._store(writer, rows)
            except Exception as error:
                if not isinstance(error, EngineError):
                    logger.exception("could not store %d events", len(rows))
                    writer.close()
                for entry in entries:
                    entry.future.set_exception(error)
                self._land(entries)
            else:
                for entry in entries:
                    entry.future.set_result([_receipt(row) for row in entry.rows])
                self._land(entries)
                self._expire(writer)
            finally:
                del self._writing_since[threading.get_ident()]
                self._failures.pop(threading.get_ident(), None)
        writer.close()

    def _expire(self, writer: RowWriter) -> None:
        """Have panes drop rows beyond their retention, if it is time."""
        with self._changed:
            if time.monotonic() < self._expires_at:
                return
            self._expires_at = time.monotonic() + EXPIRE_EVERY_S
        try:
            writer.expire()
        except psycopg.Error as error:
            logger.warning("could not drop rows beyond their retention: %s", error)
            writer.close()

    def _take(self) -> list[_Entry]:
        """Wait for entries and return a batch of them; an empty one when the log is closed.

        Wait `linger_ms` for more only while fewer rows are queued than the last batch had: the same
        callers are likely to send again. A single caller is not delayed.
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
        """Take the next entries out of the queue, except those with ids in flight.

        An entry with an id that the other writer is storing keeps its place in the queue, and so do
        entries that repeat any of its ids: else one transaction would wait for the other's ids, or
        both would, a deadlock.
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
        """Take the ids of a finished batch out of those in flight."""
        with self._changed:
            for entry in entries:
                self._in_flight[entry.topic] -= entry.ids
            self._batches_done += 1
            self._changed.notify_all()

    def _store(self, writer: RowWriter, rows: Sequence[EventRow]) -> None:
        """Write until every row has its receipt, over as many connections as that takes.

        A loop and not `tenacity`: each try writes only the rows that are left, and how long to try
        depends on when the log was closed, which may be while it waits.
        """
        pause, longest = BACKOFF_S
        while rows := [row for row in rows if row.receipt is None]:
            try:
                writer.write(rows)
            except (psycopg.Error, EngineError) as error:
                writer.close()
                closing = self._closing_at
                if closing is not None and time.monotonic() > closing + CLOSE_TIMEOUT_S:
                    logger.error("%d events were not stored: %s", len(rows), error)
                    raise EngineError(f"not stored: {error}") from None
                self._failures[threading.get_ident()] = reason = one_line(error)
                logger.warning("the log could not write, trying again in %.2f s: %s", pause, reason)
                time.sleep(pause)
                pause = min(pause * 2, longest)


class _Entry:
    """The rows of one call, a row for each item, their ids, and the future of the caller."""

    __slots__ = ("future", "ids", "rows", "topic")

    def __init__(self, topic: Topic, rows: list[EventRow]) -> None:
        self.topic = topic
        self.rows = rows
        at = ID_AT[topic]
        self.ids: set[str] = {row.values[at] for row in rows if row.topic != REJECTED}
        self.future: Future[list[Receipt]] = Future()
        self.future.set_running_or_notify_cancel()  # a queued item cannot be cancelled


def _row(topic: Topic, item: Item) -> EventRow:
    if isinstance(item, Filled):
        return event_row(topic, item.event, filled=item.fields)
    if isinstance(item, Rejected):
        error = item.error
        return rejected_row(topic, error.field, str(error), json_text(item.payload))
    return event_row(topic, item)


def _receipt(row: EventRow) -> Receipt:
    """Return the receipt of a stored row; an item stored in ``rejected`` was not accepted."""
    assert row.receipt is not None
    return row.receipt if row.topic != REJECTED else Receipt("rejected", reason=row.values[2])


def row_writer(engine: Engine) -> RowWriter:
    """Return what stores rows on this engine."""
    if not engine.settings.kafka:
        return TableWriter(engine)
    from headrace.events.kafka.producer import KafkaWriter

    return KafkaWriter(engine.settings)

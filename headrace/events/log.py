"""The event log: a bounded queue in front of the event tables, answered after the commit.

A writer thread takes all that is queued, commits it as one batch and then resolves the futures of
the callers; what queued meanwhile is the next batch. When the connection is lost, the batch is sent
again until the database is back; repeated ids are counted once.

There is one writer: a second one, which copies the next batch in while the first one updates the
views, was measured to cost more than it gains. The snapshot of its open COPY keeps the old versions
of the rows that the first one updates, so pages fill up and panes grow (HOT updates of
`label_panes` fell from 98 to 74 %).
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
from headrace.events.contract import Event, Topic
from headrace.events.rows import (
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
# A batch does not wait for more once nothing came for so long.
QUIET_S = 0.001


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


class Stored(Future[list[Receipt]]):
    """The receipts of one call, a receipt for each item, in order.

    With them come the seconds that the items waited in the queue, `waited_s`, and those from then
    to the end of their commit, `written_s`: copying, updating the views, tries that failed.
    """

    waited_s = written_s = 0.0


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
        self._crowd = 1  # rows that the next batch waits for
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._expires_at = time.monotonic() + EXPIRE_EVERY_S
        self._writing_since: float | None = None
        self._failure = ""
        self._thread = threading.Thread(target=self._run, name="headrace-log", daemon=True)
        self._thread.start()

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
        """Seconds since the batch that is being written began; 0 without one."""
        since = self._writing_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def failure(self) -> str:
        """Why a batch could not be written yet; empty when nothing failed."""
        return self._failure

    def submit(self, topic: Topic, items: Sequence[Item]) -> Stored:
        """Queue items of one topic; the future is done after their commit.

        Raises:
            BusyError: `queue_rows` items are queued already.
            EngineError: the log is closed. (Also set on the future when the log was closed before
                the database came back.)
        """
        entry = _Entry([_row(topic, item) for item in items])
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
        self._thread.join()

    def _run(self) -> None:
        writer = row_writer(self._engine)
        while entries := self._take():
            rows = [row for entry in entries for row in entry.rows]
            began = self._writing_since = time.monotonic()
            try:
                self._store(writer, rows)
            except Exception as error:
                if not isinstance(error, EngineError):
                    logger.exception("could not store %d events", len(rows))
                    writer.close()
                for entry in entries:
                    entry.future.set_exception(error)
            else:
                written_s = time.monotonic() - began
                for entry in entries:
                    entry.future.waited_s = began - entry.queued_at
                    entry.future.written_s = written_s
                    entry.future.set_result([_receipt(row) for row in entry.rows])
                self._expire(writer)
            finally:
                self._writing_since, self._failure = None, ""
        writer.close()

    def _expire(self, writer: RowWriter) -> None:
        """Have panes drop rows beyond their retention, if it is time."""
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

        Wait for more, `linger_ms` at most, only while fewer rows are queued than the last batch had
        and more keep coming: the same callers are likely to send again. A single caller is not
        delayed.
        """
        with self._changed:
            while not self._queue and self._closing_at is None:
                self._changed.wait()
            deadline = time.monotonic() + self._linger_s
            while self._waiting < self._crowd and self._closing_at is None:
                before, left = self._waiting, deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, QUIET_S))
                if self._waiting == before:
                    break
            entries: list[_Entry] = []
            taken = 0
            while self._queue and (
                not entries or taken + len(self._queue[0].rows) <= self._batch_rows
            ):
                entries.append(self._queue.popleft())
                taken += len(entries[-1].rows)
            self._waiting -= taken
            self._crowd = max(1, min(taken, self._batch_rows))
            return entries

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
                self._failure = one_line(error)
                logger.warning(
                    "the log could not write, trying again in %.2f s: %s", pause, self._failure
                )
                time.sleep(pause)
                pause = min(pause * 2, longest)


class _Entry:
    """The rows of one call, a row for each item, and the future of the caller."""

    __slots__ = ("future", "queued_at", "rows")

    def __init__(self, rows: list[EventRow]) -> None:
        self.rows = rows
        self.queued_at = time.monotonic()
        self.future = Stored()
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

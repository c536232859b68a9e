"""The event log: everything that happened, written by one thread, acknowledged after the commit.

Callers put events into a bounded queue; the writer takes all that is waiting, commits it as one
batch and then resolves the futures. A lost connection is retried until it is back, which counts
nothing twice because ids are unique. One event that the database refuses goes to
``events.rejected`` and takes nothing else with it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from headrace.engine import Engine
from headrace.errors import ContractError, EngineError, HeadraceError
from headrace.events import IDS, STRUCTS, TOPICS, Event, Topic

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 30.0
# How often what panes hold beyond their retention is dropped.
EXPIRE_EVERY_S = 60.0
# Batches that are stored the longer way after duplicates came, at most.
MAX_DETOUR = 64
BACKOFF_S = (0.05, 2.0)

REJECTED = "rejected"
_COLUMNS: dict[str, tuple[str, ...]] = {
    **{topic: STRUCTS[topic].__struct_fields__ for topic in TOPICS},
    REJECTED: ("topic", "field", "reason", "payload"),
}
# An inference before its feedback, so that a pair of one batch joins at once.
_ORDER: tuple[str, ...] = ("inference", "feedback", "model_events", REJECTED)
_ID_AT = {topic: _COLUMNS[topic].index(IDS[topic]) for topic in TOPICS}
_JSON = ("features", "input", "output", "metadata", "metrics")
_JSON_AT = {
    topic: [_COLUMNS[topic].index(name) for name in _JSON if name in _COLUMNS[topic]]
    for topic in TOPICS
}


class Busy(HeadraceError):
    """The queue is full: wait and send again."""

    retry_after_s = 1


class Refused(msgspec.Struct, frozen=True):
    """An event that the database would not take, and why; `index` counts from 0."""

    index: int
    reason: str


class Receipt(msgspec.Struct, frozen=True):
    """What became of the events of one call, after the commit."""

    accepted: int = 0
    duplicates: int = 0
    refused: tuple[Refused, ...] = ()


class _Row:
    __slots__ = ("outcome", "topic", "values")

    def __init__(self, topic: str, values: Sequence[Any]) -> None:
        self.topic = topic
        self.values = values
        self.outcome: str | None = None  # accepted, duplicate, or why it was refused

    @property
    def id(self) -> Any:
        return self.values[_ID_AT[self.topic]]  # type: ignore[index]


class _Entry:
    """The rows of one call, its events first, and the future that its caller holds."""

    __slots__ = ("events", "future", "rows")

    def __init__(self, rows: list[_Row], events: int) -> None:
        self.rows = rows
        self.events = events
        self.future: Future[Receipt] = Future()
        self.future.set_running_or_notify_cancel()  # a queued event can't be called back

    def resolve(self) -> None:
        outcomes = [row.outcome for row in self.rows[: self.events]]
        accepted, duplicates = outcomes.count("accepted"), outcomes.count("duplicate")
        refused: tuple[Refused, ...] = ()
        if accepted + duplicates < len(outcomes):
            refused = tuple(
                Refused(index, str(outcome))
                for index, outcome in enumerate(outcomes)
                if outcome not in ("accepted", "duplicate")
            )
        self.future.set_result(Receipt(accepted, duplicates, refused))


class EventLog:
    """The way into the event tables. A context manager; leaving it stores all that is queued.

    Safe to share by threads. `linger_ms`, `batch_rows` and `queue_rows` are settings.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._linger_s = engine.settings.linger_ms / 1000
        self._batch_rows = engine.settings.batch_rows
        self._queue_rows = engine.settings.queue_rows
        self._queue: deque[_Entry] = deque()
        self._waiting = 0  # rows in the queue
        self._crowd = 1  # rows worth waking the writer for
        self._changed = threading.Condition()
        self._closing_at: float | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._detour, self._next_detour = 0, 1
        self._expires_at = time.monotonic() + EXPIRE_EVERY_S
        self._thread = threading.Thread(target=self._run, name="headrace-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def queued(self) -> int:
        """Number of events that wait for a commit."""
        return self._waiting

    def submit(
        self,
        topic: Topic,
        events: Sequence[Event],
        rejected: Sequence[tuple[object, ContractError]] = (),
    ) -> Future[Receipt]:
        """Queue checked events of one topic; the future resolves after their commit.

        `rejected` are payloads that broke the contract, and how: they go to ``events.rejected``
        with the same commit and are not counted in the receipt.

        Raises:
            Busy: `queue_rows` events are waiting already.
            EngineError: the log is closed. (Also set on the future when the log had to close
                before the database came back.)
        """
        rows = [_Row(topic, _encode(topic, event)) for event in events]
        for payload, error in rejected:
            rows.append(_rejection(topic, error.field, str(error), _dump(payload)))
        entry = _Entry(rows, len(events))
        with self._changed:
            if self._closing_at is not None:
                raise EngineError("the event log is closed")
            if self._waiting and self._waiting + len(rows) > self._queue_rows:
                raise Busy(f"{self._waiting} events are waiting to be stored; send again later")
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
        self._thread.join()
        self._disconnect()

    def _run(self) -> None:
        while entries := self._take():
            rows = [row for entry in entries for row in entry.rows]
            try:
                self._store(rows)
            except Exception as error:
                if not isinstance(error, EngineError):
                    log.exception("could not store %d events", len(rows))
                    self._disconnect()
                for entry in entries:
                    entry.future.set_exception(error)
            else:
                for entry in entries:
                    entry.resolve()
                self._expire()

    def _expire(self) -> None:
        """Keep the panes bounded: who makes them grow prunes them, between two batches."""
        if self._connection is None or time.monotonic() < self._expires_at:
            return
        self._expires_at = time.monotonic() + EXPIRE_EVERY_S
        try:
            self._connection.execute("select control.expire()")
            self._connection.commit()
        except psycopg.Error as error:
            log.warning("could not drop what is beyond its retention: %s", error)
            self._disconnect()

    def _take(self) -> list[_Entry]:
        """Wait for events and return a batch; an empty one when the log is closed.

        Linger only while fewer wait than the last batch held: the same crowd is likely to be
        back, and a single caller is not kept waiting for company.
        """
        with self._changed:
            while not self._queue and self._closing_at is None:
                self._changed.wait()
            deadline = time.monotonic() + self._linger_s
            while self._waiting < self._crowd and self._closing_at is None:
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
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

    def _store(self, rows: Sequence[_Row]) -> None:
        """Write until every row has its outcome, over as many connections as that takes."""
        pause, longest = BACKOFF_S
        while rows := [row for row in rows if row.outcome is None]:
            try:
                self._write(rows)
            except (psycopg.Error, EngineError) as error:
                self._disconnect()
                closing = self._closing_at
                if closing is not None and time.monotonic() > closing + CLOSE_TIMEOUT_S:
                    log.error("%d events were not stored: %s", len(rows), error)
                    raise EngineError(f"the database stayed away: {error}") from None
                reason = " ".join(str(error).split())
                log.warning("the log could not write, trying again in %.2f s: %s", pause, reason)
                time.sleep(pause)
                pause = min(pause * 2, longest)

    def _write(self, rows: Sequence[_Row]) -> None:
        """Commit the rows, halving the batch around any that the database refuses."""
        try:
            stored = self._commit(rows)
        except (psycopg.Error, UnicodeError) as error:
            if not _is_about_data(error):
                raise
            if self._connection is not None:
                self._connection.rollback()
            if len(rows) > 1:
                middle = len(rows) // 2
                self._write(rows[:middle])
                self._write(rows[middle:])
            else:
                self._refuse(rows[0], str(error).splitlines()[0])
            return
        for row in rows:
            if row.topic == REJECTED:
                row.outcome = "accepted"
            elif row.id in stored[row.topic]:
                stored[row.topic].remove(row.id)
                row.outcome = "accepted"
            else:
                row.outcome = "duplicate"

    def _refuse(self, row: _Row, reason: str) -> None:
        if row.topic != REJECTED:
            payload = {
                name: value[1:].decode() if isinstance(value, bytes) else value
                for name, value in zip(_COLUMNS[row.topic], row.values, strict=True)
            }
            self._commit([_rejection(row.topic, "", reason, _dump(payload))])
        row.outcome = reason

    def _commit(self, rows: Sequence[_Row]) -> dict[str, set[str]]:
        """Store the rows in one transaction and return the ids that were new, by topic.

        Copied straight into the tables as long as nothing comes twice; after a batch that held a
        duplicate the next ones take the longer way, for twice as many batches each time.
        """
        by_topic = {topic: [row for row in rows if row.topic == topic] for topic in _ORDER}
        by_topic = {topic: of_topic for topic, of_topic in by_topic.items() if of_topic}
        if self._detour > 0:
            self._detour -= 1
            return self._commit_new(by_topic)
        try:
            self._commit_all(by_topic)
        except psycopg.errors.UniqueViolation:
            self._connect().rollback()
            self._detour = self._next_detour
            self._next_detour = min(2 * self._next_detour, MAX_DETOUR)
            return self._commit_new(by_topic)
        self._next_detour = 1
        return {
            topic: {row.id for row in of_topic if topic != REJECTED}
            for topic, of_topic in by_topic.items()
        }

    def _commit_all(self, by_topic: Mapping[str, Sequence[_Row]]) -> None:
        connection = self._connect()
        for topic, rows in by_topic.items():
            _copy(connection, _COPY[topic], topic, rows)
        connection.commit()

    def _commit_new(self, by_topic: Mapping[str, Sequence[_Row]]) -> dict[str, set[str]]:
        connection = self._connect()
        for topic, rows in by_topic.items():
            _copy(connection, _COPY_STAGE[topic], topic, rows)
        with connection.pipeline():
            cursors = {topic: connection.execute(_INSERT[topic]) for topic in by_topic}
            connection.commit()
        return {topic: {row[0] for row in cursor} for topic, cursor in cursors.items()}

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = self._engine.connect(
                autocommit=False, connect_timeout=5, application_name="headrace log"
            )
            for statement in _STAGE.values():
                connection.execute(statement)
            connection.commit()
            self._connection = connection
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _columns(topic: str) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, _COLUMNS[topic]))


_STAGE = {
    topic: sql.SQL(
        "create temp table {stage} on commit delete rows as "
        "select {columns} from events.{table} with no data"
    ).format(
        stage=sql.Identifier(f"stage_{topic}"),
        columns=_columns(topic),
        table=sql.Identifier(topic),
    )
    for topic in _ORDER
}
_COPY = {
    topic: sql.SQL("copy events.{table} ({columns}) from stdin (format binary)").format(
        table=sql.Identifier(topic), columns=_columns(topic)
    )
    for topic in _ORDER
}
_COPY_STAGE = {
    topic: sql.SQL("copy {} from stdin (format binary)").format(sql.Identifier(f"stage_{topic}"))
    for topic in _ORDER
}
_TYPES = {
    "event_time": "timestamptz", "score": "float8", "propensity": "float8", "latency_ms": "float8",
    "value": "float8", "traffic": "float8",
    # jsonb travels as a version byte and its text
    **dict.fromkeys(_JSON, "bytea"),
}  # fmt: skip
_INSERT = {
    topic: sql.SQL(
        "insert into events.{table} ({columns}, ingested_at) "
        "select {columns}, (select clock_timestamp()) from {stage} "
        "on conflict do nothing returning {key}"
    ).format(
        table=sql.Identifier(topic),
        columns=_columns(topic),
        stage=sql.Identifier(f"stage_{topic}"),
        key=sql.Identifier(IDS[topic]) if topic in TOPICS else sql.SQL("null"),  # type: ignore[index]
    )
    for topic in _ORDER
}


def _copy(
    connection: psycopg.Connection[Any], statement: sql.Composed, topic: str, rows: Sequence[_Row]
) -> None:
    with connection.cursor().copy(statement) as copy:
        copy.set_types([_TYPES.get(column, "text") for column in _COLUMNS[topic]])
        for row in rows:
            copy.write_row(row.values)


def _encode(topic: Topic, event: Event) -> list[Any]:
    values = list(msgspec.structs.astuple(event))
    for position in _JSON_AT[topic]:
        if values[position] is not None:
            values[position] = b"\x01" + msgspec.json.encode(values[position])
    return values


def _rejection(topic: str, field: str, reason: str, payload: str) -> _Row:
    return _Row(REJECTED, (topic, _storable(field), _storable(reason), payload))


def _storable(text: str) -> str:
    """Text without what PostgreSQL can't hold (NUL, lone surrogates), escaped instead."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()


def _dump(payload: object) -> str:
    """JSON text of anything, in ASCII: ``\\u0000`` stays an escape."""
    try:
        return json.dumps(payload, default=str, skipkeys=True)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(f"a {type(payload).__name__} that JSON can't hold")


def _is_about_data(error: Exception) -> bool:
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError | UnicodeError):
        return True
    # Class 54: the row is too large for a page, an index or a limit.
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")

"""The writer of `headrace.events.log` whose events go to Kafka rather than into the database.

A broker refuses messages by the batch of a partition, so rows that are refused together are sent
again in halves until one is refused alone: that one has its reason, the others are accepted. The
producer is not idempotent: kafka-python's ends for good with the first message that is refused, and
takes what is under way in other partitions with it. One request at a time keeps the order; what
comes twice because an acknowledgement was lost has one id.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownError,
)
from kafka.record.default_records import DefaultRecordBatchBuilder

from headrace.errors import one_line
from headrace.events.kafka.brokers import access, make_topics, topic_name, unreachable
from headrace.events.kafka.limits import message_limits
from headrace.events.rows import COLUMNS, REJECTED, Row, rejection
from headrace.settings import Settings

log = logging.getLogger(__name__)

# How long the brokers may take to acknowledge an event.
DELIVERY_TIMEOUT_MS = 20_000
# Bytes that are sent at once, where no topic's limit is lower.
MAX_BATCH = 1_000_000
# Bytes of a message where the brokers don't say their limit: what they have unless told otherwise.
MAX_MESSAGE = 1_048_588
# Bytes of a message whatever its topic's limit is: brokers hang up on a longer request.
MAX_REQUEST = 100_000_000
# A limit that is older is read again before it refuses an event.
LIMITS_AGE_S = 10.0
# Characters that are kept of the field and the reason of a rejected payload that is too large.
KEPT = 1_000
# The time of a message that has none: no broker refuses it.
NO_TIME = -1

_KEYS = {
    "inference": "request_id", "feedback": "request_id", "model_events": "model",
    "rejected": "topic",
}  # fmt: skip
_KEY_AT = {topic: COLUMNS[topic].index(name) for topic, name in _KEYS.items()}

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSALS = (*_TOO_LARGE, InvalidTimestampError, InvalidRecordError)


class _Message(NamedTuple):
    """A row as it is sent, and its bytes as the only one of a batch."""

    row: Row
    key: bytes
    value: bytes
    timestamp_ms: int | None
    size: int


class KafkaWriter:
    """Sends rows to their topics; an event is accepted when all in-sync replicas have it.

    Which events came twice is seen where they are read, so none is a duplicate here. Every method
    raises BrokerError when the brokers don't answer; the rows without an outcome may then be
    written again. Not for several threads.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None
        self._limits: dict[str, int] = {}
        self._limits_read_at = self._began_at = 0.0

    def write(self, rows: Sequence[Row]) -> None:
        """Send the rows and wait until each is acknowledged or refused.

        An event that is refused goes to the topic ``rejected`` with its reason.
        """
        self._began_at = time.monotonic()
        try:
            refused = self._deliver(rows)
            lost = self._deliver(
                [
                    rejection(row.topic, "", reason, row.message().decode())
                    for row, reason in refused
                    if row.topic != REJECTED
                ]
            )
        except KafkaError as error:
            raise unreachable(self._settings, error) from None
        for row, reason in (*refused, *lost):
            row.outcome = reason
            if row.topic == REJECTED:
                log.error("a rejected payload of %s could not be kept: %s", row.values[0], reason)

    def expire(self) -> None:
        """Do nothing: the topics have a retention of their own."""

    def close(self) -> None:
        """Let go of the producer, which an error may have ended for good; a write makes another."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # It waits for what is under way, and raises when that takes too long.
            with contextlib.suppress(KafkaError):
                producer.close(timeout=1)

    def _deliver(self, rows: Sequence[Row], timed: bool = True) -> list[tuple[Row, str]]:
        """Send the rows, without times of their messages unless `timed`; return the refused."""
        if not rows:
            return []
        self._connect()
        messages = [self._message(row, timed) for row in rows]
        fitting = [message for message in messages if message.size <= self._limit(message.row)]
        if len(fitting) < len(messages) and self._limits_read_at + LIMITS_AGE_S < time.monotonic():
            self.close()
            return self._deliver(rows, timed)
        refused = [
            (message.row, self._excess(message))
            for message in messages
            if message.size > self._limit(message.row)
        ]
        most = min((MAX_BATCH, *self._limits.values()))
        for chunk in _chunks(fitting, most):
            refused += self._apart(self._send(chunk), timed, alone=len(chunk) == 1)
        return refused

    def _apart(
        self, refused: Sequence[tuple[_Message, KafkaError]], timed: bool, alone: bool
    ) -> list[tuple[Row, str]]:
        """Send again what was refused together; return what is refused alone, and why."""
        if not refused:
            return []
        rows = [message.row for message, _ in refused]
        error = next((each for _, each in refused if type(each) is not KafkaError), refused[0][1])
        if isinstance(error, _TOO_LARGE):
            if self._limits_read_at < self._began_at:
                self.close()
                self._connect()  # with the limits of now
        elif timed:
            # Perhaps the clocks are apart. A time that nobody said goes into the message instead.
            reason = one_line(error)
            log.warning("Kafka refuses %d messages, sent again without time: %s", len(rows), reason)
            return self._deliver(rows, timed=False)
        if alone:
            ((message, _),) = refused
            fits = message.size <= self._limit(message.row)
            says = f"{message.size:,} bytes with its key; Kafka says {one_line(error)}"
            return [(message.row, says if fits else self._excess(message))]
        middle = (len(rows) + 1) // 2
        return [*self._deliver(rows[:middle], timed), *self._deliver(rows[middle:], timed)]

    def _send(self, messages: Sequence[_Message]) -> list[tuple[_Message, KafkaError]]:
        """Send messages and wait for their acknowledgements; return the refused."""
        producer = self._connect()
        sent: list[tuple[_Message, Any]] = []
        refused: list[tuple[_Message, KafkaError]] = []
        failure: KafkaError | None = None
        try:
            for message in messages:
                future = producer.send(
                    topic_name(self._settings, message.row.topic),
                    key=message.key,
                    value=message.value,
                    timestamp_ms=message.timestamp_ms,
                )
                sent.append((message, future))
        except KafkaError as error:
            failure = error
        _settle(producer, [future for _, future in sent])
        for message, future in sent:
            try:
                future.get(timeout=0)
            except KafkaError as error:
                # The plain one is that of a message whose neighbour was refused.
                if isinstance(error, _REFUSALS) or type(error) is KafkaError:
                    refused.append((message, error))
                else:
                    failure = error
            else:
                message.row.outcome = "accepted"
        if failure is not None:
            raise failure
        return refused

    def _message(self, row: Row, timed: bool) -> _Message:
        # A time that nobody said is the message's own, so that whoever reads it knows.
        unsaid = [name for name in row.assumed if name == "event_time"] if timed else []
        timestamp_ms = (_milliseconds(row) if unsaid else None) if timed else NO_TIME
        key = str(row.values[_KEY_AT[row.topic]]).encode()
        value = row.message(without=unsaid)
        if row.topic == REJECTED:
            value = _cut(row, self._limit(row) - _size(key, b""))
        return _Message(row, key, value, timestamp_ms, _size(key, value))

    def _limit(self, row: Row) -> int:
        return min(self._limits.get(row.topic, MAX_MESSAGE), MAX_REQUEST)

    def _excess(self, message: _Message) -> str:
        name = topic_name(self._settings, message.row.topic)
        limit = self._limit(message.row)
        return (
            f"{message.size:,} bytes with its key, of {limit:,} that a message of {name} may have"
        )

    def _connect(self) -> KafkaProducer:
        if self._producer is None:
            make_topics(self._settings)
            self._limits = message_limits(self._settings)
            self._limits_read_at = time.monotonic()
            self._producer = KafkaProducer(
                **access(self._settings),
                acks="all",
                enable_idempotence=False,
                max_in_flight_requests_per_connection=1,
                # What is sent at once is one batch of each partition, and goes with the flush.
                linger_ms=1_000,
                batch_size=MAX_BATCH,
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                request_timeout_ms=DELIVERY_TIMEOUT_MS // 2,
                max_block_ms=DELIVERY_TIMEOUT_MS // 2,
                max_request_size=MAX_REQUEST + 1_000,  # a message's size is looked at here
            )
        return self._producer


def _size(key: bytes, value: bytes) -> int:
    """Bytes of a batch of one message, which is what brokers have a limit for."""
    builder = DefaultRecordBatchBuilder
    return int(builder.header_size_in_bytes() + builder.size_in_bytes(0, 0, key, value, []))


def _chunks(messages: Sequence[_Message], most: int) -> Iterator[list[_Message]]:
    """Yield messages in their order, of at most so many bytes or one alone."""
    chunk: list[_Message] = []
    size = 0
    for message in messages:
        if chunk and size + message.size > most:
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += message.size
    if chunk:
        yield chunk


def _settle(producer: KafkaProducer, futures: Sequence[Any]) -> None:
    """Have everything sent, and wait until it has an answer or is given up."""
    deadline = time.monotonic() + 1.5 * DELIVERY_TIMEOUT_MS / 1000
    while (left := deadline - time.monotonic()) > 0:
        # The first is how a flush ends when a batch is split meanwhile, because it was too large.
        with contextlib.suppress(UnknownError, KafkaTimeoutError):
            producer.flush(left)
        if all(future.is_done for future in futures):
            return


def _cut(row: Row, most: int) -> bytes:
    """Return a rejected payload as a message, shortened where it has more bytes than `most`."""
    message = row.message()
    topic, field, reason, payload, origin = row.values
    kept = payload
    while len(message) > most and kept:
        kept = kept[: len(kept) // 2]
        why = f"{reason[:KEPT]} (of the payload, {len(kept):,} of {len(payload):,} characters)"
        message = Row(REJECTED, (topic, field[:KEPT], why, kept, origin)).message()
    return message


def _milliseconds(row: Row) -> int:
    when: datetime = row.values[COLUMNS[row.topic].index("event_time")]
    return int(when.timestamp() * 1000)

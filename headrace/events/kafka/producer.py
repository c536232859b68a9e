"""Writes the rows of the event log to Kafka's topics instead of the tables.

A broker refuses messages by the batch of a partition, so rows that are refused together are sent
again in halves until one is refused alone: it is rejected, the others are accepted. The producer is
not idempotent: kafka-python's idempotent one fails for good with the first refused message, and
fails those in flight in other partitions with it. One request at a time keeps the order; a message
that was sent twice because its acknowledgement was lost has one id.
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
from headrace.events.kafka.brokers import admin_client, broker_error
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.topics import make_topics, message_limits, topic_name
from headrace.events.rows import ACCEPTED, COLUMNS, REJECTED, EventRow, Receipt, rejected_row
from headrace.settings import Settings

logger = logging.getLogger(__name__)

# How long the brokers may take to acknowledge an event.
DELIVERY_TIMEOUT_MS = 20_000
# Most bytes that are sent at once, where no topic's limit is lower.
MAX_BATCH = 1_000_000
# Most bytes of a message where the brokers don't say their limit: their default.
MAX_MESSAGE = 1_048_588
# Most bytes of a message whatever its topic's limit: brokers hang up on a longer request.
MAX_REQUEST = 100_000_000
# An older limit is read again before it rejects an event.
LIMITS_AGE_S = 10.0
# Characters of the field and of the reason of a rejected payload that is too large.
KEPT = 1_000
# The timestamp of a message without one, which no broker refuses.
NO_TIME = -1

_KEYS = {
    "inference": "request_id", "feedback": "request_id", "model_events": "model",
    "rejected": "topic",
}  # fmt: skip
_KEY_AT = {topic: COLUMNS[topic].index(name) for topic, name in _KEYS.items()}

_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
_REFUSALS = (*_TOO_LARGE, InvalidTimestampError, InvalidRecordError)


class _Message(NamedTuple):
    """A row as it is sent; `size` is its bytes as a batch of one."""

    row: EventRow
    key: bytes
    value: bytes
    timestamp_ms: int | None
    size: int


class KafkaWriter:
    """Sends rows to their topics; an event is accepted when all in-sync replicas have it.

    Duplicates are found when the topics are read, so no receipt says duplicate. Every method raises
    BrokerError when the brokers don't respond; rows without a receipt may then be written again.
    Not for several threads.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None
        self._limits: dict[str, int] = {}
        self._limits_read_at = self._began_at = 0.0

    def write(self, rows: Sequence[EventRow]) -> None:
        """Send the rows and wait until each is acknowledged or refused.

        A refused event goes to the topic ``rejected`` with the reason.
        """
        self._began_at = time.monotonic()
        try:
            refused = self._deliver(rows)
            lost = self._deliver(
                [
                    rejected_row(row.topic, "", reason, row.message().decode())
                    for row, reason in refused
                    if row.topic != REJECTED
                ]
            )
        except KafkaError as error:
            raise broker_error(self._settings, error) from None
        for row, reason in (*refused, *lost):
            row.receipt = Receipt("rejected", reason=reason)
            if row.topic == REJECTED:
                logger.error(
                    "a rejected payload of %s could not be stored: %s", row.values[0], reason
                )

    def expire(self) -> None:
        """Do nothing: the topics have a retention of their own."""

    def close(self) -> None:
        """Close the producer, which may have failed for good; the next write makes another."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # It waits for messages in flight, and raises when that takes too long.
            with contextlib.suppress(KafkaError):
                producer.close(timeout=1)

    def _deliver(self, rows: Sequence[EventRow], timed: bool = True) -> list[tuple[EventRow, str]]:
        """Send the rows, with timestamps if `timed`; return the refused ones and why."""
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
    ) -> list[tuple[EventRow, str]]:
        """Send messages again that were refused together; return those refused alone, and why."""
        if not refused:
            return []
        rows = [message.row for message, _ in refused]
        error = next((each for _, each in refused if type(each) is not KafkaError), refused[0][1])
        if isinstance(error, _TOO_LARGE):
            if self._limits_read_at < self._began_at:
                self.close()
                self._connect()  # reads the limits again
        elif timed:
            # The clocks may differ. The time goes into the value of the message instead.
            reason = one_line(error)
            logger.warning(
                "Kafka refuses %d messages, sent again without timestamp: %s", len(rows), reason
            )
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
                # A plain KafkaError: another message of the batch was refused.
                if isinstance(error, _REFUSALS) or type(error) is KafkaError:
                    refused.append((message, error))
                else:
                    failure = error
            else:
                message.row.receipt = ACCEPTED
        if failure is not None:
            raise failure
        return refused

    def _message(self, row: EventRow, timed: bool) -> _Message:
        # An event_time that was filled in becomes the timestamp, so that readers know it was.
        filled = [name for name in row.filled if name == "event_time"] if timed else []
        timestamp_ms = (_milliseconds(row) if filled else None) if timed else NO_TIME
        key = str(row.values[_KEY_AT[row.topic]]).encode()
        value = row.message(without=filled)
        if row.topic == REJECTED:
            value = _cut(row, self._limit(row) - _size(key, b""))
        return _Message(row, key, value, timestamp_ms, _size(key, value))

    def _limit(self, row: EventRow) -> int:
        return min(self._limits.get(row.topic, MAX_MESSAGE), MAX_REQUEST)

    def _excess(self, message: _Message) -> str:
        name = topic_name(self._settings, message.row.topic)
        limit = self._limit(message.row)
        return (
            f"{message.size:,} bytes with its key, of {limit:,} that a message of {name} may have"
        )

    def _connect(self) -> KafkaProducer:
        if self._producer is None:
            with admin_client(self._settings) as admin:
                make_topics(admin, self._settings)
                self._limits = message_limits(admin, self._settings)
            self._limits_read_at = time.monotonic()
            self._producer = KafkaProducer(
                **client_options(self._settings),
                acks="all",
                enable_idempotence=False,
                max_in_flight_requests_per_connection=1,
                # Each partition gets one batch, which the flush sends.
                linger_ms=1_000,
                batch_size=MAX_BATCH,
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                request_timeout_ms=DELIVERY_TIMEOUT_MS // 2,
                max_block_ms=DELIVERY_TIMEOUT_MS // 2,
                max_request_size=MAX_REQUEST + 1_000,  # the size of messages is checked here
            )
        return self._producer


def _size(key: bytes, value: bytes) -> int:
    """Return the bytes of a batch of one message, which is what brokers limit."""
    builder = DefaultRecordBatchBuilder
    return int(builder.header_size_in_bytes() + builder.size_in_bytes(0, 0, key, value, []))


def _chunks(messages: Sequence[_Message], most: int) -> Iterator[list[_Message]]:
    """Yield the messages in chunks of at most `most` bytes, or of one message."""
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
    """Send everything, and wait until each message is acknowledged, refused or given up."""
    deadline = time.monotonic() + 1.5 * DELIVERY_TIMEOUT_MS / 1000
    while (left := deadline - time.monotonic()) > 0:
        # A flush raises UnknownError when a batch is split meanwhile because it was too large.
        with contextlib.suppress(UnknownError, KafkaTimeoutError):
            producer.flush(left)
        if all(future.is_done for future in futures):
            return


def _cut(row: EventRow, most: int) -> bytes:
    """Return a rejected payload as a message of at most `most` bytes, shortened if needed."""
    message = row.message()
    topic, field, reason, payload, origin = row.values
    kept = payload
    while len(message) > most and kept:
        kept = kept[: len(kept) // 2]
        why = f"{reason[:KEPT]} (of the payload, {len(kept):,} of {len(payload):,} characters)"
        message = EventRow(REJECTED, (topic, field[:KEPT], why, kept, origin)).message()
    return message


def _milliseconds(row: EventRow) -> int:
    when: datetime = row.values[COLUMNS[row.topic].index("event_time")]
    return int(when.timestamp() * 1000)

"""The writer of `headrace.log` whose events go to Kafka rather than into the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, MessageSizeTooLargeError

from headrace.kafka.brokers import access, make_topics, topic_name, unreachable
from headrace.rows import COLUMNS, Row
from headrace.settings import Settings

# How long the brokers may take to acknowledge an event.
DELIVERY_TIMEOUT_MS = 20_000
# Bytes, as brokers have it unless they are told otherwise.
MAX_MESSAGE = 1_000_000
_KEYS = {
    "inference": "request_id", "feedback": "request_id", "model_events": "model",
    "rejected": "topic",
}  # fmt: skip
_KEY_AT = {topic: COLUMNS[topic].index(name) for topic, name in _KEYS.items()}


class KafkaWriter:
    """Sends rows to their topics; an event is accepted when all in-sync replicas have it.

    Which events came twice is seen where they are read, so none is a duplicate here. Every method
    raises BrokerError when the brokers don't answer; the rows without an outcome may then be
    written again. Not for several threads.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None

    def write(self, rows: Sequence[Row]) -> None:
        """Send the rows and wait until each of them is acknowledged, or is too large."""
        try:
            producer = self._connect()
            sent = [(row, self._send(producer, row)) for row in rows]
            producer.flush()
            for row, future in sent:
                try:
                    future.get(timeout=DELIVERY_TIMEOUT_MS / 1000)
                except MessageSizeTooLargeError:
                    row.outcome = f"larger than a message of Kafka may be ({MAX_MESSAGE:,} bytes)"
                else:
                    row.outcome = "accepted"
        except KafkaError as error:
            raise unreachable(self._settings, error) from None

    def expire(self) -> None:
        """Do nothing: the topics have a retention of their own."""

    def close(self) -> None:
        """Let go of the producer, which an error may have ended for good; a write makes another."""
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None

    def _send(self, producer: KafkaProducer, row: Row) -> Any:
        # A time that nobody said is the message's own, so that whoever reads it knows.
        unsaid = [name for name in row.assumed if name == "event_time"]
        return producer.send(
            topic_name(self._settings, row.topic),
            key=str(row.values[_KEY_AT[row.topic]]).encode(),
            value=row.message(without=unsaid),
            timestamp_ms=_milliseconds(row) if unsaid else None,
        )

    def _connect(self) -> KafkaProducer:
        if self._producer is None:
            make_topics(self._settings)
            self._producer = KafkaProducer(
                **access(self._settings),
                acks="all",
                enable_idempotence=True,
                linger_ms=1,
                batch_size=262_144,
                delivery_timeout_ms=DELIVERY_TIMEOUT_MS,
                request_timeout_ms=DELIVERY_TIMEOUT_MS // 2,
                max_block_ms=DELIVERY_TIMEOUT_MS // 2,
                max_request_size=MAX_MESSAGE,
            )
        return self._producer


def _milliseconds(row: Row) -> int:
    when: datetime = row.values[COLUMNS[row.topic].index("event_time")]
    return int(when.timestamp() * 1000)

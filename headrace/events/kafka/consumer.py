"""Reads the topics as rows, each partition from the offset that the database says.

Every error of the client becomes a BrokerError of one line, and the client is replaced: after a
batch that it cannot decode, the next poll of kafka-python never returns. A partition that cannot be
read is left out for a while, so that the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)

from headrace.engine import Engine
from headrace.errors import BrokerError, EngineError, one_line
from headrace.events.kafka.brokers import broker_error, require_brokers
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.messages import row_of
from headrace.events.kafka.offsets import (
    Available,
    Position,
    known_partitions,
    resume,
    topic_id_text,
)
from headrace.events.kafka.topics import topic_names
from headrace.events.rows import EventRow
from headrace.settings import Settings

POLL_MS = 200
# After a pause this long without messages, topics are looked up: they may have been made anew.
PAUSE_S = 0.1
# How long a partition is left out that cannot be read.
LEFT_OUT_S = 10.0
RESPONSE_MS = 10_000
CLOSE_MS = 2_000

Records = Mapping[TopicPartition, Sequence[Any]]


class TopicReader:
    """Reads the partitions that the group assigns to it. Not for several threads.

    Every method raises BrokerError when the brokers do not respond or a partition cannot be read,
    and psycopg.Error or EngineError when the database does not respond. `read` may then be called
    again.
    """

    def __init__(self, engine: Engine, **options: Any) -> None:
        self._engine = engine
        self._options = options
        self._names = topic_names(engine.settings)
        self._consumer: KafkaConsumer | None = None
        self._assignment = _Assignment()
        self._refused: dict[TopicPartition, int | None] = {}
        self._positions: dict[TopicPartition, Position] = {}
        self._left_out_until: dict[TopicPartition, float] = {}
        self._known: set[TopicPartition] = set()
        self._last_message_at = 0.0

    def read(self) -> list[EventRow]:
        """Return the rows of POLL_MS; the next call goes on after them, unless after a `rewind`."""
        try:
            return self._read()
        except (psycopg.Error, EngineError):
            self.rewind()
            raise
        except Exception as error:
            raise self._failed(error) from None

    def rewind(self) -> None:
        """Have the next `read` begin at the stored offsets."""
        self._assignment.changed = True

    def offsets(self) -> list[tuple[str, int, str, int, int | None]]:
        """Return (topic, partition, topic's id, next offset, end offset) of each partition.

        The end offset is one past the last message of the brokers, open transactions included; None
        where they did not say.
        """
        if self._consumer is None or self._assignment.changed:
            return []
        try:
            return [
                (*each, position.topic_id, at, self._consumer.highwater(each))
                for each, position in self._positions.items()
                if (at := self._consumer.position(each, timeout_ms=0)) is not None
            ]
        except KafkaError:  # just assigned to another member
            return []

    def close(self) -> None:
        """Close the connection; `read` opens another."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            with suppress(Exception):
                consumer.close(timeout_ms=CLOSE_MS)

    def _read(self) -> list[EventRow]:
        consumer, polled = self._open(), {}
        try:
            polled = consumer.poll(timeout_ms=POLL_MS)
        except NoOffsetForPartitionError:
            self.rewind()  # just assigned
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            self._refused.update(_refused(error))
            self.close()  # a new client looks up the topics
            return []
        if polled:
            if time.monotonic() > self._last_message_at + PAUSE_S:
                _look_up_topics(consumer)
            self._last_message_at = time.monotonic()
        if self._assignment.changed or self._has_changed():
            self._assignment.changed = False
            self._resume()
            return []
        self._rejoin_for_new()
        self._try_left_out()
        return rows_of(polled, self._names, self._positions)

    def _open(self) -> KafkaConsumer:
        if self._consumer is None:
            # The database says where to begin, never the client.
            options = {"auto_offset_reset": "none", **self._options}
            self._consumer = open_consumer(self._engine.settings, **options)
            self._consumer.subscribe(list(self._names), listener=self._assignment)
            self.rewind()
        return self._consumer

    def _readable(self) -> set[TopicPartition]:
        """Return the assigned partitions that have a leader and are not left out."""
        consumer = self._open()
        return {
            each
            for each in consumer.assignment() - self._left_out_until.keys()
            if each.partition
            in (consumer._cluster.available_partitions_for_topic(each.topic) or ())
        }

    def _has_changed(self) -> bool:
        """Whether a partition became readable, or its topic was made anew."""
        now = topic_ids(self._open(), {partition.topic for partition in self._positions})
        return bool(self._readable() - self._positions.keys()) or any(
            now[partition.topic] not in ("", position.topic_id)
            for partition, position in self._positions.items()
        )

    def _resume(self) -> None:
        consumer = self._open()
        partitions = self._readable()
        first = consumer.beginning_offsets(partitions, timeout_ms=RESPONSE_MS)
        end = consumer.end_offsets(partitions, timeout_ms=RESPONSE_MS)
        available = {each: Available(first[each], end[each]) for each in partitions}
        ids = topic_ids(consumer, {each.topic for each in partitions})
        self._positions = resume(self._engine, available, ids, self._refused)
        self._refused.clear()
        self._known |= known_partitions(self._engine)
        for each in consumer.assignment():
            # One that cannot be read is paused, but the client needs an offset for it, too.
            position = self._positions.get(each)
            consumer.seek(each, position.next_offset if position else 0)
            (consumer.resume if position else consumer.pause)(each)

    def _rejoin_for_new(self) -> None:
        """Have the group assign partitions that no member has read yet.

        Only the leader of the group looks for new partitions, and a member that took the place of a
        killed one does not know that it leads.
        """
        cluster = self._open()._cluster
        existing = {
            TopicPartition(name, number)
            for name in self._names
            for number in cluster.partitions_for_topic(name) or ()
        }
        if new := existing - self._known:
            self._known |= new
            self._open()._coordinator.request_rejoin()

    def _try_left_out(self) -> None:
        now = time.monotonic()
        for each in [each for each, until in self._left_out_until.items() if until <= now]:
            del self._left_out_until[each]
            self.rewind()

    def _failed(self, error: Exception) -> BrokerError:
        consumer = self._consumer
        text = f"{type(error).__name__}: {one_line(error)}"
        if broken := unreadable_partitions(consumer, error):
            names = ", ".join(
                f"{each.topic}/{each.partition} from offset {_position(consumer, each)} on"
                for each in sorted(broken)
            )
            text = f"{names} cannot be read, the other partitions go on: {text}"
            self._left_out_until.update(dict.fromkeys(broken, time.monotonic() + LEFT_OUT_S))
        self.close()
        return BrokerError(f"Kafka at {self._engine.settings.kafka}: {text}")


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc]
    """Remembers that the assigned partitions changed: their offsets are in the database."""

    changed = True

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Do nothing: between two polls no message is in work."""

    def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        self.changed = True


def open_consumer(settings: Settings, **options: Any) -> KafkaConsumer:
    """Return a consumer without a subscription; `options` go to kafka-python.

    It reads what was committed, and makes no topic by asking for it.

    Raises:
        BrokerError: the brokers cannot be reached.
    """
    require_brokers(settings)
    try:
        return KafkaConsumer(
            **client_options(settings),
            **{
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
                "max_poll_records": settings.batch_rows,
                "fetch_max_wait_ms": 20,
                # New partitions, and topics made anew, are found after this long.
                "metadata_max_age_ms": 5_000,
                # The group drops a dead consumer after this long.
                "session_timeout_ms": 10_000,
                "heartbeat_interval_ms": 1_000,
                **options,
            },
        )
    except KafkaError as error:
        raise broker_error(settings, error) from None


def topic_ids(consumer: KafkaConsumer, topics: Iterable[str]) -> dict[str, str]:
    """Return the ids of topics that the consumer knows, empty for a missing topic."""
    return {topic: topic_id_text(consumer._cluster.topic_id(topic)) for topic in topics}


def rows_of(
    polled: Records,
    names: Mapping[str, str],
    positions: Mapping[TopicPartition, Position],
) -> list[EventRow]:
    """Return the rows of polled messages; `names` has the contract's names of the topics."""
    return [
        row_of(names[partition.topic], record, *positions[partition][1:])
        for partition, records in polled.items()
        for record in records
    ]


def _look_up_topics(consumer: KafkaConsumer) -> None:
    """Have the consumer look up the topics now."""
    updated = consumer._cluster.request_update()
    consumer._net.run(consumer._manager.wait_for, updated, RESPONSE_MS)


# Decompression libraries raise errors of their own, too.
_UNREADABLE = (CorruptRecordError, UnsupportedCodecError)


def _refused(error: KafkaError) -> dict[TopicPartition, int | None]:
    """Return the partitions that end before the offset to read, and where, if brokers say so."""
    if isinstance(error, LogTruncationError):
        return {each: at and at.offset for each, at in error.divergent_offsets.items()}
    return dict.fromkeys(error.args[0])


def unreadable_partitions(consumer: KafkaConsumer | None, error: Exception) -> set[TopicPartition]:
    """Return the partitions that an error of `poll` is about; none for an error of the brokers."""
    if consumer is None:
        return set()
    if isinstance(error, TopicAuthorizationFailedError):
        topics = error.args[0] if error.args else ()
        return {each for each in consumer.assignment() if each.topic in topics}
    if isinstance(error, KafkaError) and not isinstance(error, _UNREADABLE):
        return set()
    decoding = consumer._fetcher._next_partition_records
    return {decoding.topic_partition} & consumer.assignment() if decoding else set()


def _position(consumer: KafkaConsumer, partition: TopicPartition) -> Any:
    position = consumer._subscription.assignment[partition].position
    return position.offset if position else "?"

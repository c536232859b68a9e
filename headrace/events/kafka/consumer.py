"""What the topics bring, as rows, from where the database says that each partition goes on.

Whatever the client raises is told in one line, and the client is made anew: after a batch that it
cannot decode, kafka-python's next poll never returns. Such a partition rests a while, so that the
others go on.
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
from headrace.events.kafka.brokers import access, reach, topic_names, unreachable
from headrace.events.kafka.messages import row_of
from headrace.events.kafka.places import Kept, Place, go_on, id_text, met
from headrace.events.rows import Row
from headrace.settings import Settings

POLL_MS = 200
# When messages come after a pause this long, it is asked whether their topic is still the same.
PAUSE_S = 0.1
# How long a partition rests that cannot be read.
REST_S = 10.0
ANSWER_MS = 10_000
CLOSE_MS = 2_000

Records = Mapping[TopicPartition, Sequence[Any]]


class Reader:
    """Reads the partitions that the group gives it. Not for several threads.

    Every method raises BrokerError when the brokers do not answer or a partition cannot be read,
    and psycopg.Error or EngineError when the database does not; `read` may then be called again.
    """

    def __init__(self, engine: Engine, **options: Any) -> None:
        self._engine = engine
        self._options = options
        self._names = topic_names(engine.settings)
        self._consumer: KafkaConsumer | None = None
        self._assigned = _Assigned()
        self._refused: dict[TopicPartition, int | None] = {}
        self._places: dict[TopicPartition, Place] = {}
        self._rests: dict[TopicPartition, float] = {}
        self._met: set[TopicPartition] = set()
        self._came_at = 0.0

    def read(self) -> list[Row]:
        """Return what came within POLL_MS; it counts as read unless `go_back` is called."""
        try:
            return self._read()
        except (psycopg.Error, EngineError):
            self.go_back()
            raise
        except Exception as error:
            raise self._failed(error) from None

    def go_back(self) -> None:
        """Have the next `read` begin where the database says."""
        self._assigned.anew = True

    def noted(self) -> list[tuple[str, int, str, int, int | None]]:
        """Return (topic, partition, topic's id, next offset, end) of each partition.

        The end is one past the last message that the brokers have, those of transactions under way
        included; None where they did not say.
        """
        if self._consumer is None or self._assigned.anew:
            return []
        try:
            return [
                (*each, place.topic_id, at, self._consumer.highwater(each))
                for each, place in self._places.items()
                if (at := self._consumer.position(each, timeout_ms=0)) is not None
            ]
        except KafkaError:  # they were just given to another
            return []

    def close(self) -> None:
        """Let go of the brokers; `read` comes back to them."""
        if self._consumer is not None:
            consumer, self._consumer = self._consumer, None
            with suppress(Exception):
                consumer.close(timeout_ms=CLOSE_MS)

    def _read(self) -> list[Row]:
        consumer, polled = self._open(), {}
        try:
            polled = consumer.poll(timeout_ms=POLL_MS)
        except NoOffsetForPartitionError:
            self.go_back()  # just assigned
        except (OffsetOutOfRangeError, LogTruncationError) as error:
            self._refused.update(_refused(error))
            self.close()  # the next client asks anew which topics there are
            return []
        if polled:
            if time.monotonic() > self._came_at + PAUSE_S:
                _ask_for_topics(consumer)
            self._came_at = time.monotonic()
        if self._assigned.anew or self._changed():
            self._assigned.anew = False
            self._go_on()
            return []
        self._divide_new()
        self._wake()
        return rows_of(polled, self._names, self._places)

    def _open(self) -> KafkaConsumer:
        if self._consumer is None:
            # Where to begin is asked of the database, never chosen by the client.
            options = {"auto_offset_reset": "none", **self._options}
            self._consumer = open_consumer(self._engine.settings, **options)
            self._consumer.subscribe(list(self._names), listener=self._assigned)
            self.go_back()
        return self._consumer

    def _readable(self) -> set[TopicPartition]:
        """Return those of our partitions that do not rest, and whose topic and leader are there."""
        consumer = self._open()
        return {
            each
            for each in consumer.assignment() - self._rests.keys()
            if each.partition
            in (consumer._cluster.available_partitions_for_topic(each.topic) or ())
        }

    def _changed(self) -> bool:
        """Whether a partition can be read at last, or is another's than the topic that was read."""
        now = topic_ids(self._open(), {partition.topic for partition in self._places})
        return bool(self._readable() - self._places.keys()) or any(
            now[partition.topic] not in ("", place.topic_id)
            for partition, place in self._places.items()
        )

    def _go_on(self) -> None:
        consumer = self._open()
        partitions = self._readable()
        first = consumer.beginning_offsets(partitions, timeout_ms=ANSWER_MS)
        end = consumer.end_offsets(partitions, timeout_ms=ANSWER_MS)
        kept = {each: Kept(first[each], end[each]) for each in partitions}
        ids = topic_ids(consumer, {each.topic for each in partitions})
        self._places = go_on(self._engine, kept, ids, self._refused)
        self._refused.clear()
        self._met |= met(self._engine)
        for each in consumer.assignment():
            # One that cannot be read waits; the client wants to know of a place all the same.
            place = self._places.get(each)
            consumer.seek(each, place.next_offset if place else 0)
            (consumer.resume if place else consumer.pause)(each)

    def _divide_new(self) -> None:
        """Have the group divide partitions that nobody has met.

        A member that took the place of a killed one does not know that it leads the group, whose
        leader alone looks for them.
        """
        cluster = self._open()._cluster
        there = {
            TopicPartition(name, number)
            for name in self._names
            for number in cluster.partitions_for_topic(name) or ()
        }
        if new := there - self._met:
            self._met |= new
            self._open()._coordinator.request_rejoin()

    def _wake(self) -> None:
        now = time.monotonic()
        for each in [each for each, until in self._rests.items() if until <= now]:
            del self._rests[each]
            self.go_back()

    def _failed(self, error: Exception) -> BrokerError:
        consumer = self._consumer
        text = f"{type(error).__name__}: {one_line(error)}"
        if broken := at_fault(consumer, error):
            names = ", ".join(
                f"{each.topic}/{each.partition} from offset {_position(consumer, each)} on"
                for each in sorted(broken)
            )
            text = f"{names} cannot be read, the other partitions go on: {text}"
            self._rests.update(dict.fromkeys(broken, time.monotonic() + REST_S))
        self.close()
        return BrokerError(f"Kafka at {self._engine.settings.kafka}: {text}")


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    """Remembers that the partitions changed: where to go on is in the database."""

    anew = True

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing is under way between two polls."""

    def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        self.anew = True


def open_consumer(settings: Settings, **options: Any) -> KafkaConsumer:
    """Return a consumer of our topics, not subscribed yet; `options` go to kafka-python.

    It reads what was committed, and makes no topic by asking for it.

    Raises:
        BrokerError: the brokers cannot be reached.
    """
    reach(settings)  # a client that finds nobody leaves a thread behind
    try:
        return KafkaConsumer(
            **access(settings),
            **{
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "isolation_level": "read_committed",
                "max_poll_records": settings.batch_rows,
                "fetch_max_wait_ms": 20,
                # New partitions, and topics made anew, are seen after this long.
                "metadata_max_age_ms": 5_000,
                # A consumer that died is missed after this long.
                "session_timeout_ms": 10_000,
                "heartbeat_interval_ms": 1_000,
                **options,
            },
        )
    except KafkaError as error:
        raise unreachable(settings, error) from None


def topic_ids(consumer: KafkaConsumer, topics: Iterable[str]) -> dict[str, str]:
    """Return the ids of topics as the consumer last heard of them, '' for one that is not there."""
    return {topic: id_text(consumer._cluster.topic_id(topic)) for topic in topics}


def rows_of(
    polled: Records,
    names: Mapping[str, str],
    places: Mapping[TopicPartition, Place],
) -> list[Row]:
    """Return the rows of what was polled; `names` has the contract's names of the topics."""
    return [
        row_of(names[partition.topic], record, *places[partition][1:])
        for partition, records in polled.items()
        for record in records
    ]


def _ask_for_topics(consumer: KafkaConsumer) -> None:
    """Have the consumer hear now what topics there are."""
    heard = consumer._cluster.request_update()
    consumer._net.run(consumer._manager.wait_for, heard, ANSWER_MS)


# What decompresses raises errors of its own.
_UNREADABLE = (CorruptRecordError, UnsupportedCodecError)


def _refused(error: KafkaError) -> dict[TopicPartition, int | None]:
    """The partitions that end before where they were read, and where, if that is said."""
    if isinstance(error, LogTruncationError):
        return {each: at and at.offset for each, at in error.divergent_offsets.items()}
    return dict.fromkeys(error.args[0])


def at_fault(consumer: KafkaConsumer | None, error: Exception) -> set[TopicPartition]:
    """The partitions that an error of `poll` is about: none where it is of the brokers as such."""
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

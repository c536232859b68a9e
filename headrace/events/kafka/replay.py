"""Reads the topics again, from a time on or whole, and stores what is missing in the database."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from headrace.engine import Engine
from headrace.errors import BrokerError, EngineError, SettingError, one_line
from headrace.events.kafka.brokers import broker_error
from headrace.events.kafka.consumer import (
    RESPONSE_MS,
    Records,
    open_consumer,
    rows_of,
    topic_ids,
    unreadable_partitions,
)
from headrace.events.kafka.ingest import Report
from headrace.events.kafka.offsets import naming_positions
from headrace.events.kafka.topics import topic_names
from headrace.events.tables import TableWriter
from headrace.settings import PREFIX, Settings

logger = logging.getLogger(__name__)

# Past the end, a replay reads on for at most this long, while messages come.
QUIET_MS = 1_000
# After this many empty polls in a row the rest up to the end was compacted away.
MAX_EMPTY_POLLS = 10


def time_of(text: str) -> datetime | None:
    """Return the time in the text of an option; None for ``earliest``.

    Raises:
        SettingError: it is neither.
    """
    if text == "earliest":
        return None
    try:
        since = datetime.fromisoformat(text)
    except ValueError:
        raise SettingError(
            f"--from: must be a time such as 2026-01-31T00:00:00Z, or earliest, got {text!r}"
        ) from None
    return since if since.tzinfo else since.replace(tzinfo=UTC)


def replay(engine: Engine, since: datetime | None = None, report: Report = lambda _: None) -> int:
    """Read the topics from `since`, or from their beginning, to their end; return how many rows.

    The end is where the topics end at the start; later messages are left to `ingest`. Stored events
    stay as they are, and so do the offsets of `ingest`.

    Raises:
        BrokerError: the brokers cannot be reached or have none of the topics, or a partition cannot
            be read.
        EngineError: the database was lost.
    """
    names = topic_names(engine.settings)
    consumer = open_consumer(engine.settings)
    writer = TableWriter(engine)
    read = 0
    try:
        there = _partitions(consumer, engine.settings)
        positions = naming_positions(engine, there, topic_ids(consumer, names))
        partitions = _begin(consumer, there, since)
        ends = consumer.end_offsets(partitions, timeout_ms=RESPONSE_MS)
        empty, until = 0, None
        while partitions:
            rows = rows_of(_poll(consumer, engine.settings), names, positions)
            if rows:
                for row in rows:
                    row.origin = None
                writer.write(rows)
                read += len(rows)
                report(read)
            left = [each for each in partitions if consumer.position(each) < ends[each]]
            if not left:
                until = until or time.monotonic() + QUIET_MS / 1000
                if not rows or time.monotonic() > until:
                    break
            elif rows:
                empty = 0
            elif (empty := empty + 1) == MAX_EMPTY_POLLS:
                logger.warning("nothing more can be read of %s", ", ".join(map(_name, left)))
                break
            else:
                # The end of a topic that was made anew has moved back.
                for each, end in consumer.end_offsets(left, timeout_ms=RESPONSE_MS).items():
                    ends[each] = min(end, ends[each])
        return read
    except KafkaError as error:
        raise broker_error(engine.settings, error) from None
    except psycopg.Error as error:
        raise EngineError(f"not stored, replay it again: {one_line(error)}") from None
    finally:
        writer.close()
        consumer.close()


def _poll(consumer: KafkaConsumer, settings: Settings) -> Records:
    try:
        polled: Records = consumer.poll(timeout_ms=QUIET_MS)
    except Exception as error:
        if not (broken := unreadable_partitions(consumer, error)):
            raise
        names = ", ".join(
            f"{_name(each)} from offset {consumer.position(each)} on" for each in sorted(broken)
        )
        raise BrokerError(
            f"Kafka at {settings.kafka}: {names} cannot be read: "
            f"{type(error).__name__}: {one_line(error)}"
        ) from None
    return polled


def _partitions(consumer: KafkaConsumer, settings: Settings) -> list[TopicPartition]:
    names = topic_names(settings)
    found = [
        TopicPartition(name, number)
        for name in names
        for number in sorted(consumer.partitions_for_topic(name))
    ]
    if not found:
        raise BrokerError(
            f"Kafka at {settings.kafka} has none of {', '.join(names)}: headrace ingest makes "
            f"them; {PREFIX}KAFKA_PREFIX says what their names begin with"
        )
    _need_leaders(consumer, found, settings)
    return found


def _need_leaders(
    consumer: KafkaConsumer, partitions: Sequence[TopicPartition], settings: Settings
) -> None:
    """Raise BrokerError for a partition without a leader, which the client would skip silently."""
    led = consumer._cluster.available_partitions_for_topic
    if lost := [each for each in partitions if each.partition not in (led(each.topic) or ())]:
        raise BrokerError(
            f"Kafka at {settings.kafka}: {', '.join(map(_name, lost))} cannot be read, for want of "
            "a leader: start the broker that has it, then replay again"
        )


def _begin(
    consumer: KafkaConsumer, partitions: Sequence[TopicPartition], since: datetime | None
) -> list[TopicPartition]:
    """Seek the first message since then; return the partitions that have one."""
    milliseconds = int(since.timestamp() * 1000) if since else 0
    if milliseconds <= 0:  # brokers refuse times before 1970
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        return list(partitions)
    found = consumer.offsets_for_times(
        dict.fromkeys(partitions, milliseconds), timeout_ms=RESPONSE_MS
    )
    first = {each: at.offset for each, at in found.items() if at is not None}
    consumer.assign(list(first))
    for each, offset in first.items():
        consumer.seek(each, offset)
    return list(first)


def _name(partition: TopicPartition) -> str:
    return f"{partition.topic}:{partition.partition}"

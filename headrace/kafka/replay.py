"""The topics read again, from a time on or whole: what is missing in the database is stored."""

from __future__ import annotations

from datetime import UTC, datetime

from kafka import TopicPartition
from kafka.errors import KafkaError

from headrace.engine import Engine
from headrace.errors import SettingError
from headrace.kafka.brokers import topic_names, unreachable
from headrace.kafka.ingest import Report, open_consumer, rows_of
from headrace.writer import Writer

# A replay ends when it is at the end and so long nothing comes.
QUIET_MS = 1_000


def time_of(text: str) -> datetime | None:
    """Return the time that a person names to replay from; None for ``earliest``.

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
    """Read the topics from `since`, or all that they have, up to their end; return how many rows.

    What is stored already stays as it is, and so does how far `ingest` has read.

    Raises:
        BrokerError: the brokers cannot be reached.
    """
    names = topic_names(engine.settings)
    consumer = open_consumer(engine.settings)
    writer = Writer(engine)
    read = 0
    try:
        partitions = [
            TopicPartition(name, number)
            for name in names
            for number in sorted(consumer.partitions_for_topic(name) or ())
        ]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        if since is not None:
            found = consumer.offsets_for_times(
                dict.fromkeys(partitions, int(since.timestamp() * 1000))
            )
            for partition, place in found.items():
                if place is not None:
                    consumer.seek(partition, place.offset)
        ends = consumer.end_offsets(partitions)
        while True:
            if rows := rows_of(consumer.poll(timeout_ms=QUIET_MS), names):
                for row in rows:
                    row.origin = None
                writer.write(rows)
                read += len(rows)
                report(read)
            elif all(consumer.position(each) >= ends[each] for each in partitions):
                return read
    except KafkaError as error:
        raise unreachable(engine.settings, error) from None
    finally:
        writer.close()
        consumer.close()

"""Kafka into the database: messages become events, each of them once.

How far a partition was read is committed with the rows (`control.consumed`), never in Kafka, so a
crash at any moment repeats nothing and loses nothing. Several consumers share the partitions; one
that was left behind by a rebalance finds its messages stored already, and lets go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from headrace.engine import DIALECTS, Engine
from headrace.errors import EngineError, SettingError
from headrace.kafka.brokers import access, make_topics, topic_names, unreachable
from headrace.kafka.messages import row_of
from headrace.log import BACKOFF_S, EXPIRE_EVERY_S
from headrace.rows import Row
from headrace.settings import PREFIX, Settings
from headrace.writer import Writer

log = logging.getLogger(__name__)

POLL_MS = 200
# How often the brokers' ends are written beside how far we have read.
LAG_EVERY_S = 1.0

Records = Mapping[TopicPartition, Sequence[Any]]
Report = Callable[[int], None]


def check(settings: Settings) -> None:
    """Find wrong settings before anything is started.

    Raises:
        SettingError: no brokers are set, or the engine reads the topics by itself.
    """
    if DIALECTS[settings.engine].reads_topics:
        raise SettingError(
            f"{PREFIX}ENGINE={settings.engine} reads Kafka's topics by itself: "
            "there is nothing to ingest or to replay"
        )
    access(settings)


def ingest(
    engine: Engine, stopping: threading.Event, report: Report = lambda _: None, **options: Any
) -> None:
    """Store what the topics bring until `stopping` is set; `report` gets the rows of each batch.

    `options` go to kafka-python's consumer.

    Raises:
        BrokerError: the brokers cannot be reached at the start.
    """
    settings = engine.settings
    make_topics(settings)
    names = topic_names(settings)
    consumer = open_consumer(settings, group_id=f"{settings.kafka_prefix}ingest", **options)
    assigned = _Assigned()
    consumer.subscribe(list(names), listener=assigned)
    writer = Writer(engine)
    pause, longest = BACKOFF_S
    look_at = expire_at = time.monotonic()
    try:
        while not stopping.is_set():
            polled = consumer.poll(timeout_ms=POLL_MS)
            try:
                if assigned.anew:
                    assigned.anew = False
                    _go_on(engine, consumer)
                    continue
                if rows := rows_of(polled, names):
                    writer.write(rows)
                    report(len(rows))
                if time.monotonic() > look_at:
                    look_at = time.monotonic() + LAG_EVERY_S
                    writer.note_ends(_ends(consumer))
                if time.monotonic() > expire_at:
                    expire_at = time.monotonic() + EXPIRE_EVERY_S
                    writer.expire()
                pause = BACKOFF_S[0]
            except (psycopg.Error, EngineError) as error:
                log.warning("not stored, reading it again in %.2f s: %s", pause, error)
                writer.close()
                assigned.anew = True
                stopping.wait(pause)
                pause = min(2 * pause, longest)
    finally:
        writer.close()
        consumer.close()


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]
    """Remembers that the partitions changed: where to go on is in the database."""

    anew = True

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing is under way between two polls."""

    def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        self.anew = True


def open_consumer(settings: Settings, **options: Any) -> KafkaConsumer:
    """Return a consumer of our topics, not subscribed yet; `options` go to kafka-python.

    Raises:
        BrokerError: the brokers cannot be reached.
    """
    try:
        return KafkaConsumer(
            **access(settings),
            **{
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "max_poll_records": settings.batch_rows,
                "fetch_max_wait_ms": 20,
                # A consumer that died is missed after this long.
                "session_timeout_ms": 10_000,
                "heartbeat_interval_ms": 1_000,
                **options,
            },
        )
    except KafkaError as error:
        raise unreachable(settings, error) from None


def rows_of(polled: Records, names: Mapping[str, str]) -> list[Row]:
    """Return what was polled as rows; `names` has the contract's name of each topic."""
    return [
        row_of(names[partition.topic], record)
        for partition, records in polled.items()
        for record in records
    ]


def _go_on(engine: Engine, consumer: KafkaConsumer) -> None:
    """Go to where the database says that each partition was read up to."""
    stored = {
        (row["topic"], row["partition"]): row["next_offset"]
        for row in engine.rows("select topic, partition, next_offset from control.consumed")
    }
    for partition in consumer.assignment():
        offset = stored.get((partition.topic, partition.partition))
        if offset is None:
            consumer.seek_to_beginning(partition)
        else:
            consumer.seek(partition, offset)


def _ends(consumer: KafkaConsumer) -> list[tuple[str, int, int]]:
    ends = [(*partition, consumer.highwater(partition)) for partition in consumer.assignment()]
    return [end for end in ends if end[2] is not None]

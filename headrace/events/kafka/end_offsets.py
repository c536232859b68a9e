"""The end offsets of the brokers, stored in `control.topic_ends`: `ingest_lag` compares with them.

The gateway stores them, too, so that the lag is known when ingest is dead.
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError

from headrace.engine import Engine
from headrace.errors import one_line
from headrace.events.kafka.brokers import broker_error, require_brokers
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.offsets import topic_id_text
from headrace.events.kafka.topics import topic_names
from headrace.settings import Settings

logger = logging.getLogger(__name__)

# How often, by all processes together; `ingest_lag` ignores what is older than 15 s.
RECORD_EVERY = timedelta(seconds=2)
RESPONSE_MS = 5_000
_NEWEST = "select now() as moment, max(looked_at) as looked_at from control.topic_ends"


class EndOffsetsRecorder:
    """Stores the end offsets every two seconds, unless another process just did.

    A context manager with a thread of its own. A reason for failure is logged once.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._client = EndOffsetsClient(engine.settings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-end-offsets", daemon=True)

    def __enter__(self) -> EndOffsetsRecorder:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(RECORD_EVERY.total_seconds())

    def _run(self) -> None:
        logged = ""
        while not self._stopping.is_set():
            pause = RECORD_EVERY
            try:
                self._record()
                logged = ""
            except Exception as error:  # whatever kafka-python raises
                self._client.close()
                if logged != (logged := one_line(error)):
                    logger.warning("the lag behind Kafka is not known: %s", logged)
                pause *= 5
            self._stopping.wait(pause.total_seconds())
        self._client.close()

    def _record(self) -> None:
        (newest,) = self._engine.rows(_NEWEST)
        moment, looked_at = newest["moment"], newest["looked_at"]
        if looked_at is None or moment - looked_at >= RECORD_EVERY:
            record(self._engine, self._client.fetch(), moment)


class PartitionEnds(NamedTuple):
    """The first offset of a partition, and one past its last.

    Open transactions count. `topic_id` is empty where the brokers give none.
    """

    topic_id: str
    first_offset: int
    end_offset: int


class EndOffsetsClient:
    """Asks the brokers for the end offsets of the topics. Not for several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin: KafkaAdminClient | None = None

    def fetch(self) -> dict[TopicPartition, PartitionEnds | None]:
        """Return the ends of each partition; None for one without a leader now.

        Missing topics are left out, and not made.

        Raises:
            BrokerError: the brokers cannot be reached.
        """
        try:
            if self._admin is None:
                require_brokers(self._settings)
                self._admin = KafkaAdminClient(
                    **client_options(self._settings), request_timeout_ms=RESPONSE_MS
                )
            ids: dict[TopicPartition, str] = {}
            led: list[TopicPartition] = []
            for topic in self._admin.describe_topics(list(topic_names(self._settings))):
                for partition in topic["partitions"]:
                    each = TopicPartition(topic["name"], partition["partition_index"])
                    ids[each] = topic_id_text(
                        UUID(topic["topic_id"]) if topic.get("topic_id") else None
                    )
                    if partition["leader_id"] >= 0:
                        led.append(each)
            first = self._offsets(led, OffsetSpec.EARLIEST)
            end = self._offsets(led, OffsetSpec.LATEST)
            return {
                each: PartitionEnds(topic_id, first[each], end[each]) if each in first else None
                for each, topic_id in ids.items()
            }
        except KafkaError as error:
            raise broker_error(self._settings, error) from None

    def close(self) -> None:
        """Close the connection; `fetch` opens another."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _offsets(
        self, partitions: list[TopicPartition], spec: OffsetSpec
    ) -> dict[TopicPartition, int]:
        assert self._admin is not None
        if not partitions:
            return {}
        found = self._admin.list_partition_offsets(dict.fromkeys(partitions, spec))
        return {each: offset.offset for each, offset in found.items()}


def record(
    engine: Engine, ends: dict[TopicPartition, PartitionEnds | None], looked_at: datetime
) -> None:
    """Store ends as of a time of the database's clock; delete those of partitions that are gone."""
    rows: list[dict[str, Any]] = [
        {**each._asdict(), **end._asdict(), "looked_at": looked_at}
        for each, end in sorted(ends.items())
        if end is not None
    ]
    stored = engine.rows("select topic, partition from control.topic_ends")
    gone = [row for row in stored if (row["topic"], row["partition"]) not in ends]
    with engine.connect() as connection:
        if rows:
            engine.dialect.put(connection, "control.topic_ends", ["topic", "partition"], rows)
        for row in gone:
            connection.execute(
                "delete from control.topic_ends where topic = %s and partition = %s",
                [row["topic"], row["partition"]],
            )

"""How far the brokers are, kept beside how far the database is: the other half of `ingest_lag`.

Whoever runs beside ingest may look, so that messages are seen to wait when ingest is dead.
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
from headrace.events.kafka.brokers import access, reach, topic_names, unreachable
from headrace.events.kafka.places import id_text
from headrace.settings import Settings

log = logging.getLogger(__name__)

# How often the brokers are asked, by all who look together; `ingest_lag` forgets after 15 s.
LOOK_EVERY = timedelta(seconds=2)
ANSWER_MS = 5_000
_NEWEST = "select now() as moment, max(looked_at) as looked_at from control.topic_ends"


class EndsKeeper:
    """Asks the brokers every two seconds what they have, unless somebody else just did.

    A context manager with a thread of its own. Why they cannot be asked is logged once.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ends = Ends(engine.settings)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-ends", daemon=True)

    def __enter__(self) -> EndsKeeper:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join(LOOK_EVERY.total_seconds())

    def _run(self) -> None:
        said = ""
        while not self._stopping.is_set():
            pause = LOOK_EVERY
            try:
                self._look()
                said = ""
            except Exception as error:  # whatever kafka-python raises: it is asked again
                self._ends.close()
                if said != (said := one_line(error)):
                    log.warning("how far Kafka is ahead is not known: %s", said)
                pause *= 5
            self._stopping.wait(pause.total_seconds())
        self._ends.close()

    def _look(self) -> None:
        (newest,) = self._engine.rows(_NEWEST)
        moment, looked_at = newest["moment"], newest["looked_at"]
        if looked_at is None or moment - looked_at >= LOOK_EVERY:
            keep(self._engine, self._ends.ask(), moment)


class End(NamedTuple):
    """What the brokers have of a partition: its first message, and one past its last.

    Those of transactions under way are among them. `topic_id` is '' where the brokers give none.
    """

    topic_id: str
    first_offset: int
    end_offset: int


class Ends:
    """Asks the brokers for the ends of our topics. Not for several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin: KafkaAdminClient | None = None

    def ask(self) -> dict[TopicPartition, End | None]:
        """Return the end of each partition; None for one that has no leader now.

        Topics that are not there are left out, and not made.

        Raises:
            BrokerError: the brokers do not answer.
        """
        try:
            if self._admin is None:
                reach(self._settings)
                self._admin = KafkaAdminClient(
                    **access(self._settings), request_timeout_ms=ANSWER_MS
                )
            ids: dict[TopicPartition, str] = {}
            led: list[TopicPartition] = []
            for topic in self._admin.describe_topics(list(topic_names(self._settings))):
                for partition in topic["partitions"]:
                    each = TopicPartition(topic["name"], partition["partition_index"])
                    ids[each] = id_text(UUID(topic["topic_id"]) if topic.get("topic_id") else None)
                    if partition["leader_id"] >= 0:
                        led.append(each)
            first = self._offsets(led, OffsetSpec.EARLIEST)
            end = self._offsets(led, OffsetSpec.LATEST)
            return {
                each: End(topic_id, first[each], end[each]) if each in first else None
                for each, topic_id in ids.items()
            }
        except KafkaError as error:
            raise unreachable(self._settings, error) from None

    def close(self) -> None:
        """Let go of the brokers; `ask` comes back to them."""
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
        return {each: place.offset for each, place in found.items()}


def keep(engine: Engine, ends: dict[TopicPartition, End | None], looked_at: datetime) -> None:
    """Store what the brokers had at a moment of the database's clock, and forget what is gone."""
    rows: list[dict[str, Any]] = [
        {**each._asdict(), **end._asdict(), "looked_at": looked_at}
        for each, end in sorted(ends.items())
        if end is not None
    ]
    kept = engine.rows("select topic, partition from control.topic_ends")
    gone = [row for row in kept if (row["topic"], row["partition"]) not in ends]
    with engine.connect() as connection:
        if rows:
            engine.dialect.put(connection, "control.topic_ends", ["topic", "partition"], rows)
        for row in gone:
            connection.execute(
                "delete from control.topic_ends where topic = %s and partition = %s",
                [row["topic"], row["partition"]],
            )

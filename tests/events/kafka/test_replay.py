"""Replay: from where it reads, and that it ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.cluster import ClusterMetadata
from kafka.structs import OffsetAndTimestamp

from headrace.cli import main
from headrace.engine import Engine
from headrace.errors import BrokerError
from headrace.events.kafka.consumer import open_consumer
from headrace.events.kafka.replay import replay, time_of
from tests.support.brokers import REAL, environment, make_topics
from tests.support.ingesting import produce, stored

Places = Mapping[TopicPartition, OffsetAndTimestamp | None]


def send(engine: Engine, *names: str) -> None:
    bodies = [f'{{"model": "m", "request_id": "{name}"}}'.encode() for name in names]
    produce(engine, "inference", *bodies, timestamp_ms=1_714_564_800_000)


def looking_up(monkeypatch: pytest.MonkeyPatch, found: dict[int, int]) -> list[int]:
    """Have times looked up as Apache Kafka does: a partition without a later message has None."""
    asked: list[int] = []

    def offsets_for_times(
        _: KafkaConsumer, times: Mapping[TopicPartition, int], **__: Any
    ) -> Places:
        asked.extend(times.values())
        return {
            each: OffsetAndTimestamp(found[each.partition], 0, -1)
            if each.partition in found and each.topic.endswith("inference")
            else None
            for each in times
        }

    monkeypatch.setattr(KafkaConsumer, "offsets_for_times", offsets_for_times)
    return asked


def partition_of(engine: Engine) -> int:
    """The partition that the messages of `produce` are in."""
    consumer = open_consumer(engine.settings)
    name = f"{engine.settings.kafka_prefix}inference"
    consumer.assign([TopicPartition(name, n) for n in consumer.partitions_for_topic(name)])
    consumer.seek_to_beginning()
    while not (polled := consumer.poll(timeout_ms=500)):
        pass
    consumer.close()
    found: int = next(iter(polled)).partition
    return found


def test_a_partition_with_nothing_since_then_is_not_read(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topics(kafka_engine.settings)
    send(kafka_engine, "a", "b", "c")
    looking_up(monkeypatch, {})
    assert replay(kafka_engine, datetime.now(UTC)) == 0
    assert stored(kafka_engine) == []
    looking_up(monkeypatch, {partition_of(kafka_engine): 2})
    assert replay(kafka_engine, datetime(2024, 1, 1, tzinfo=UTC)) == 1
    assert stored(kafka_engine) == ["c"]


@pytest.mark.skipif(not REAL, reason="Tansu looks times up wrongly")
def test_times_are_looked_up(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    send(kafka_engine, "a", "b", "c")
    assert replay(kafka_engine, datetime.now(UTC)) == 0
    assert replay(kafka_engine, datetime(2024, 1, 1, tzinfo=UTC)) == 3


def test_a_time_before_1970_is_the_beginning(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topics(kafka_engine.settings)
    send(kafka_engine, "a", "b")
    asked = looking_up(monkeypatch, {})
    assert replay(kafka_engine, time_of("1969-12-31")) == 2
    assert replay(kafka_engine, time_of("0001-01-01T00:00:00+14:00")) == 2
    assert asked == []


def test_without_topics_it_says_so_and_makes_none(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = kafka_engine.settings
    monkeypatch.setenv("HEADRACE_DSN", settings.dsn)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        assert main(["--home", str(settings.home), "replay"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"has none of {settings.kafka_prefix}inference, " in line
        assert "headrace ingest makes them" in line


def test_what_grows_meanwhile_is_not_waited_for(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each poll brings a message more, without end."""
    make_topics(kafka_engine.settings)
    send(kafka_engine, "a")
    poll, sent = KafkaConsumer.poll, iter(range(1_000_000))

    def poll_and_send(self: KafkaConsumer, **options: Any) -> Any:
        polled = poll(self, **options)
        send(kafka_engine, f"later-{next(sent)}")
        return polled

    monkeypatch.setattr(KafkaConsumer, "poll", poll_and_send)
    monkeypatch.setattr("headrace.events.kafka.replay.QUIET_MS", 100)
    assert replay(kafka_engine) >= 1
    assert "a" in stored(kafka_engine)


def test_an_end_that_nothing_reaches_is_given_up(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last messages were compacted away: the position never gets there."""
    make_topics(kafka_engine.settings)
    send(kafka_engine, "a")
    monkeypatch.setattr(
        KafkaConsumer, "end_offsets", lambda _, partitions, **__: dict.fromkeys(partitions, 100)
    )
    monkeypatch.setattr("headrace.events.kafka.replay.QUIET_MS", 50)
    assert replay(kafka_engine) == 1
    assert "nothing more can be read of" in caplog.text


@pytest.mark.parametrize("since", [None, datetime(2024, 1, 1, tzinfo=UTC)])
def test_a_partition_without_a_leader_is_not_passed_over(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch, since: datetime | None
) -> None:
    make_topics(kafka_engine.settings)
    send(kafka_engine, "a")
    place = f"{kafka_engine.settings.kafka_prefix}inference", partition_of(kafka_engine)
    update = ClusterMetadata.update_metadata

    def without_leader(self: ClusterMetadata, metadata: Any) -> Any:
        for topic in metadata.topics:
            for each in topic.partitions:
                if (topic.name, each.partition_index) == place:
                    each.error_code, each.leader_id = 5, -1
        return update(self, metadata)

    monkeypatch.setattr(ClusterMetadata, "update_metadata", without_leader)
    with pytest.raises(BrokerError, match=rf"{place[0]}:{place[1]} cannot be read"):
        replay(kafka_engine, since)

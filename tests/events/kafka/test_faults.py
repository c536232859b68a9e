"""Faults of real brokers: messages dropped, batches that cannot be decoded, lost leaders.

The test broker has none of them: there the client raises what it raises on Apache Kafka."""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.cluster import ClusterMetadata
from kafka.errors import (
    CorruptRecordError,
    GroupAuthorizationFailedError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
    UnsupportedCodecError,
)
from kafka.record.default_records import DefaultRecordBatch

from headrace.engine import Engine
from headrace.errors import BrokerError
from headrace.events.kafka import consumer as reader
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.ingest import ingest
from headrace.events.kafka.replay import replay
from headrace.events.kafka.topics import topic_name
from headrace.machine import free_port
from tests.support.brokers import make_topics, real
from tests.support.ingesting import ingesting, send, stored
from tests.support.waiting import until


def test_messages_that_were_dropped_unread_are_said(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While ingest was stopped, and while it ran."""
    make_topics(kafka_engine.settings)
    with ingesting(kafka_engine):
        send(kafka_engine, ["a", "b"])
        until(lambda: len(stored(kafka_engine)) == 2)
    send(kafka_engine, ["c", "d", "e", "f", "g"])
    beginning, poll = KafkaConsumer.beginning_offsets, KafkaConsumer.poll
    dropped = {"stopped": 4, "running": 6}
    first, refused = dropped["stopped"], False
    place = TopicPartition(topic_name(kafka_engine.settings, "inference"), 0)

    def later(self: KafkaConsumer, partitions: Any, **options: Any) -> Any:
        found = beginning(self, partitions, **options)
        return {each: first if each == place else at for each, at in found.items()}

    def refuse(self: KafkaConsumer, **options: Any) -> Any:
        nonlocal first, refused
        if place in self.assignment() and self._subscription.is_fetchable(place) and not refused:
            refused, first = True, dropped["running"]
            raise OffsetOutOfRangeError({place: 4})
        return poll(self, **options)

    monkeypatch.setattr(KafkaConsumer, "beginning_offsets", later)
    monkeypatch.setattr(KafkaConsumer, "poll", refuse)
    with ingesting(kafka_engine):
        until(lambda: stored(kafka_engine) == ["a", "b", "g"])
    rows = kafka_engine.rows("select * from headrace.lost_messages order by first_offset")
    assert [(row["first_offset"], row["end_offset"]) for row in rows] == [(2, 4), (4, 6)]
    assert {row["reason"] for row in rows} == {"dropped"}
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 2


@pytest.mark.parametrize(
    "error", [UnsupportedCodecError("no zstd"), CorruptRecordError("crc"), RuntimeError("LZ4F")]
)
def test_a_batch_that_nobody_can_decode_stops_its_partition_alone(
    kafka_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    make_topics(kafka_engine.settings)
    uncompress = DefaultRecordBatch._maybe_uncompress

    def fail(self: DefaultRecordBatch) -> None:
        if b"poison" in bytes(self._buffer):
            raise error
        uncompress(self)

    monkeypatch.setattr(reader, "LEFT_OUT_S", 0.5)
    monkeypatch.setattr(DefaultRecordBatch, "_maybe_uncompress", fail)
    send(kafka_engine, ["good"])
    send(kafka_engine, ["poison", "poisoned"])
    send(kafka_engine, ["other"], partition=1)
    with pytest.raises(BrokerError, match="inference:0 from offset 1 on cannot be read: "):
        replay(kafka_engine)
    with ingesting(kafka_engine):
        place = f"{topic_name(kafka_engine.settings, 'inference')}/0 from offset 1 on"
        until(lambda: caplog.text.count(place) > 1)
        until(lambda: stored(kafka_engine) == ["good", "other"])
        send(kafka_engine, ["another"], partition=1)
        until(lambda: len(stored(kafka_engine)) == 3)
        assert str(error) in caplog.text
        monkeypatch.setattr(DefaultRecordBatch, "_maybe_uncompress", uncompress)
        until(lambda: len(stored(kafka_engine)) == 5)


@pytest.mark.parametrize("kind", ["poison", "no leader"])
def test_a_partition_that_cannot_be_read_holds_no_other_up(
    kafka_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    make_topics(kafka_engine.settings)
    place = TopicPartition(topic_name(kafka_engine.settings, "inference"), 0)
    uncompress, update = DefaultRecordBatch._maybe_uncompress, ClusterMetadata.update_metadata
    broken, times = kind == "no leader", 0

    def fail(self: DefaultRecordBatch) -> None:
        nonlocal times
        if kind == "poison" and b"poison" in bytes(self._buffer):
            times += 1
            raise UnsupportedCodecError("no zstd")
        uncompress(self)

    def without_leader(self: ClusterMetadata, metadata: Any) -> Any:
        nonlocal times
        for topic in metadata.topics if broken else ():
            for each in topic.partitions:
                if (topic.name, each.partition_index) == place:
                    times += 1
                    each.error_code, each.leader_id = 5, -1
        return update(self, metadata)

    send(kafka_engine, ["poison"])
    send(kafka_engine, ["before"], partition=1)
    monkeypatch.setattr(reader, "LEFT_OUT_S", 1_000.0)
    monkeypatch.setattr(DefaultRecordBatch, "_maybe_uncompress", fail)
    monkeypatch.setattr(ClusterMetadata, "update_metadata", without_leader)
    with ingesting(kafka_engine):
        until(lambda: times > 0)
        until(lambda: stored(kafka_engine) == ["before"])
        broken = kind == "poison"
        send(kafka_engine, ["after"], partition=1)
        here = ["after", "before"] if kind == "poison" else ["after", "before", "poison"]
        until(lambda: stored(kafka_engine) == here)


@pytest.mark.parametrize("kind", ["group", "topic", "client"])
def test_an_error_of_poll_is_said_and_tried_again(
    kafka_engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    make_topics(kafka_engine.settings)
    topic = topic_name(kafka_engine.settings, "inference")
    errors: list[Exception] = {
        "group": [GroupAuthorizationFailedError("g")] * 3,
        "topic": [TopicAuthorizationFailedError({topic})] * 3,
        "client": [ValueError("what is this"), OSError("lost")],
    }[kind]
    poll = KafkaConsumer.poll

    def fail(self: KafkaConsumer, **options: Any) -> Any:
        if errors and self.assignment():
            raise errors.pop()
        return poll(self, **options)

    monkeypatch.setattr(reader, "LEFT_OUT_S", 0.5)
    monkeypatch.setattr(KafkaConsumer, "poll", fail)
    send(kafka_engine, ["a"])
    with ingesting(kafka_engine):
        until(lambda: stored(kafka_engine) == ["a"])
    assert not errors
    assert "AuthorizationFailedError" in caplog.text or kind == "client"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_there(kafka_engine: Engine, codec: str) -> None:
    make_topics(kafka_engine.settings)
    send(kafka_engine, [f"{codec}-{number}" for number in range(20)], compression_type=codec)
    with ingesting(kafka_engine):
        until(lambda: len(stored(kafka_engine)) == 20)


def test_the_end_of_a_transaction_is_read_without_a_row(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_topics(kafka_engine.settings)
    position = KafkaConsumer.position

    def one_more(self: KafkaConsumer, each: TopicPartition, **options: Any) -> Any:
        at = position(self, each, **options)
        return at + 1 if at else at

    monkeypatch.setattr(KafkaConsumer, "position", one_more)
    monkeypatch.setattr(KafkaConsumer, "highwater", lambda self, each: self.position(each))
    send(kafka_engine, ["a"])
    with ingesting(kafka_engine):
        query = "select next_offset, end_offset from control.consumed where next_offset > 1"
        until(lambda: kafka_engine.rows(query) == [{"next_offset": 2, "end_offset": 2}])


@real
def test_messages_of_aborted_transactions_are_no_events(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    topic = topic_name(kafka_engine.settings, "inference")
    producer = KafkaProducer(**client_options(kafka_engine.settings), transactional_id=uuid4().hex)
    producer.init_transactions()
    for name in ("aborted", "committed"):
        producer.begin_transaction()
        producer.send(topic, json.dumps({"model": "m", "request_id": name}).encode(), partition=0)
        producer.flush()
        end = producer.abort_transaction if name == "aborted" else producer.commit_transaction
        end()
    producer.close()
    with ingesting(kafka_engine):
        until(lambda: stored(kafka_engine) == ["committed"])
        query = "select max(end_offset - next_offset) as behind, max(next_offset) as read"
        query += " from control.consumed"
        until(lambda: kafka_engine.rows(query) == [{"behind": 0, "read": 4}])


@real
def test_records_that_were_deleted_unread_are_said(
    kafka_engine: Engine, admin: KafkaAdminClient
) -> None:
    make_topics(kafka_engine.settings)
    with ingesting(kafka_engine):
        send(kafka_engine, ["a"])
        until(lambda: stored(kafka_engine) == ["a"])
    send(kafka_engine, ["b", "c", "d"])
    admin.delete_records({TopicPartition(topic_name(kafka_engine.settings, "inference"), 0): 3})
    with ingesting(kafka_engine):
        until(lambda: stored(kafka_engine) == ["a", "d"])
    rows = kafka_engine.rows("select first_offset, messages from headrace.lost_messages")
    assert rows == [{"first_offset": 1, "messages": 2}]


def test_ingest_joins_as_the_member_that_it_was(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the group of its database, under a name that its home keeps."""
    joined: list[tuple[str, str]] = []

    def stop(self: reader.TopicReader) -> Any:
        joined.append((self._options["group_id"], self._options["group_instance_id"]))
        stopping.set()
        return []

    monkeypatch.setattr(reader.TopicReader, "read", stop)
    for _ in range(2):
        stopping = threading.Event()
        ingest(kafka_engine, stopping)
    assert joined[0] == joined[1]
    assert joined[0][0].startswith(f"{kafka_engine.settings.kafka_prefix}ingest-test_")


def test_who_waits_for_brokers_leaves_nothing_behind(engine: Engine) -> None:
    engine.settings = replace(engine.settings, kafka=f"127.0.0.1:{free_port()}")
    waiting = reader.TopicReader(engine)
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(BrokerError, match="nobody listens"):
            waiting.read()
    assert threading.active_count() == before

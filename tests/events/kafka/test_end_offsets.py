"""How far Kafka is ahead: also with ingest dead, brokers away, and partitions never read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from kafka import TopicPartition
from starlette.testclient import TestClient

from headrace.cli import main
from headrace.engine import Engine
from headrace.errors import BrokerError
from headrace.events.kafka.end_offsets import (
    EndOffsetsClient,
    EndOffsetsRecorder,
    PartitionEnds,
    record,
)
from headrace.gateway.app import create_app
from headrace.machine import free_port
from tests.support.brokers import make_topics
from tests.support.ingesting import ingesting, produce, stored
from tests.support.waiting import until

BEHIND = "select coalesce(sum(messages_behind), -1)::int as behind from headrace.ingest_lag"
FIRST = TopicPartition("p.inference", 0)


def behind(engine: Engine) -> int:
    found: int = engine.rows(BEHIND)[0]["behind"]
    return found


def now(engine: Engine) -> Any:
    return engine.rows("select now() as now")[0]["now"]


def lag(engine: Engine, **consumed: Any) -> int | None:
    """What the view says of a partition that was read so far; nothing: it never was."""
    with engine.connect() as connection:
        connection.execute("delete from control.consumed")
        if consumed:
            connection.execute(
                "insert into control.consumed (topic, partition, next_offset, topic_id) "
                "values (%(topic)s, %(partition)s, %(next_offset)s, %(topic_id)s)",
                {**FIRST._asdict(), "topic_id": "", **consumed},
            )
    (row,) = engine.rows("select messages_behind from headrace.ingest_lag")
    found: int | None = row["messages_behind"]
    return found


def test_messages_wait_while_ingest_is_dead(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    body = b'{"model": "m"}'
    with EndOffsetsRecorder(kafka_engine):
        with ingesting(kafka_engine):
            produce(kafka_engine, "inference", *[body] * 3, timestamp_ms=1_714_564_800_000)
            until(lambda: len(stored(kafka_engine)) == 3 and behind(kafka_engine) == 0)
        produce(kafka_engine, "inference", *[body] * 50, timestamp_ms=1_714_564_800_000)
        produce(kafka_engine, "feedback", *[body] * 7, timestamp_ms=1_714_564_800_000)
        until(lambda: behind(kafka_engine) == 57)
        (row,) = kafka_engine.rows("select count(*) as partitions from headrace.ingest_lag")
        assert row == {"partitions": 16}


def test_what_the_view_says_of_a_partition(engine: Engine) -> None:
    record(engine, {FIRST: PartitionEnds("b", 20, 100)}, now(engine))
    assert lag(engine) == 80, "never read"
    assert lag(engine, next_offset=90) == 10
    assert lag(engine, next_offset=100) == 0
    assert lag(engine, next_offset=5) == 80, "what was dropped does not wait"
    assert lag(engine, next_offset=107) == 0, "read on since the brokers were asked"
    assert lag(engine, next_offset=90, topic_id="b") == 10
    assert lag(engine, next_offset=90, topic_id="a") == 80, "the topic was made anew"
    with engine.connect() as connection:
        connection.execute("update control.topic_ends set looked_at = now() - interval '1 minute'")
    assert lag(engine, next_offset=90) is None


def test_topics_that_are_gone_are_forgotten_and_leaders_that_are_away_are_not(
    engine: Engine,
) -> None:
    other = FIRST._replace(partition=1)
    record(engine, {FIRST: PartitionEnds("", 0, 1), other: PartitionEnds("", 0, 1)}, now(engine))
    record(engine, {other: None}, now(engine))
    rows = engine.rows("select partition, end_offset from headrace.ingest_lag")
    assert rows == [{"partition": 1, "end_offset": 1}]
    record(engine, {}, now(engine))
    assert engine.rows("select * from headrace.ingest_lag") == []


def test_each_engine_keeps_ends(either: Engine) -> None:
    for end in (1, 2):
        record(either, {FIRST: PartitionEnds("", 0, end)}, now(either))
    kept = "select topic, partition, end_offset from control.topic_ends"
    assert either.rows(kept) == [{**FIRST._asdict(), "end_offset": 2}]
    record(either, {}, now(either))
    assert either.rows(kept) == []


def test_looking_makes_no_topics(kafka_engine: Engine) -> None:
    for _ in range(2):
        ends = EndOffsetsClient(kafka_engine.settings)
        assert ends.fetch() == {}
        ends.close()


def test_brokers_are_asked_by_one_of_many(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def fetch(_: EndOffsetsClient) -> dict[TopicPartition, PartitionEnds]:
        asked.append(1)
        return {FIRST: PartitionEnds("", 0, 1)}

    monkeypatch.setattr(EndOffsetsClient, "fetch", fetch)
    one, two = EndOffsetsRecorder(engine), EndOffsetsRecorder(engine)
    one._record()
    two._record()
    assert len(asked) == 1
    with engine.connect() as connection:
        connection.execute("update control.topic_ends set looked_at = now() - interval '5 s'")
    two._record()
    assert len(asked) == 2


def test_brokers_that_are_away_are_said_once_and_asked_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def fetch(_: EndOffsetsClient) -> dict[TopicPartition, PartitionEnds]:
        asked.append(1)
        if len(asked) < 4:
            raise BrokerError("nobody listens at b:1; start it")
        return {FIRST: PartitionEnds("", 0, 9)}

    monkeypatch.setattr(
        "headrace.events.kafka.end_offsets.RECORD_EVERY", timedelta(milliseconds=10)
    )
    monkeypatch.setattr(EndOffsetsClient, "fetch", fetch)
    with EndOffsetsRecorder(engine):
        until(lambda: behind(engine) == 9)
    assert caplog.text.count("the lag behind Kafka is not known: nobody listens at b:1") == 1


def test_status_says_how_far_ingest_is_behind(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_DSN", engine.settings.dsn)
    monkeypatch.setenv("HEADRACE_KAFKA", f"127.0.0.1:{free_port()}")

    def told() -> list[str]:
        assert main(["--home", str(engine.settings.home), "status"]) == 0
        return capsys.readouterr().out.splitlines()

    assert "ingest     is down" in told()
    assert "kafka      messages behind: not known; headrace doctor asks the brokers" in told()
    record(engine, {FIRST: PartitionEnds("", 0, 5_000)}, now(engine))
    assert "kafka      5,000 messages behind" in told()
    with engine.connect() as connection:
        connection.execute("update control.topic_ends set looked_at = '2026-01-31T12:00:00Z'")
    assert any("not known since 2026-01-31 12:00:00 UTC; headrace" in line for line in told())


def test_the_gateway_asks_the_brokers(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    produce(kafka_engine, "inference", b"{}", b"{}", timestamp_ms=1_714_564_800_000)
    with TestClient(create_app(kafka_engine), base_url="http://127.0.0.1") as client:

        def scraped() -> bool:
            lines = client.get("/metrics").text.splitlines()
            return any(
                line.startswith("headrace_ingest_behind_messages{") and line.endswith(" 2.0")
                for line in lines
            )

        until(scraped)

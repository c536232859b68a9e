"""Kafka into PostgreSQL: each event once, whatever is killed, repeated or broken."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from headrace.engine import Engine
from headrace.errors import OvertakenError
from headrace.events.contract import parse
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.replay import replay
from headrace.events.log import EventLog, Filled
from headrace.events.rows import ACCEPTED
from tests.support.brokers import REAL, make_topics
from tests.support.ingesting import feedback, inference, ingesting, produce, stored
from tests.support.waiting import until


def take_any_time(engine: Engine, topic: str) -> None:
    """Have Apache Kafka take messages whose time is far ahead, as Tansu does."""
    if REAL:
        admin = KafkaAdminClient(**client_options(engine.settings))
        name = engine.settings.kafka_prefix + topic
        latest = {"message.timestamp.after.max.ms": str(2**63 - 1)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, latest)])
        admin.close()


def test_events_arrive_once_and_are_joined(kafka_engine: Engine) -> None:
    names = [f"r-{number}" for number in range(500)]
    with ingesting(kafka_engine), EventLog(kafka_engine) as log:
        log.append("feedback", [feedback(name) for name in names])
        log.append("inference", [inference(name, prediction="no") for name in names])
        assert log.append("inference", [inference("r-0")]) == [ACCEPTED]
        until(lambda: len(stored(kafka_engine)) == 1_000)
    assert stored(kafka_engine) == sorted([*names, *(f"f-{name}" for name in names)])
    labels = kafka_engine.rows("select count(*) as n from headrace.labeled_examples")
    assert labels == [{"n": 500}]
    read = kafka_engine.rows("select sum(next_offset) as read from control.consumed")
    assert read == [{"read": 1_001}]


def test_whatever_breaks_the_contract_is_kept_with_its_reason(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    timestamp_ms = int(moment.timestamp() * 1000)
    good = json.dumps({"model": "m", "prediction": "yes"}).encode()
    broken = [b"not json", b"\xff\xfe", b"[1]", b'{"model": "m", "colour": 1}', None]
    produce(kafka_engine, "inference", *broken[:3], good, *broken[3:], timestamp_ms=timestamp_ms)
    with ingesting(kafka_engine):
        until(lambda: len(stored(kafka_engine)) == 1)
        query = "select field, reason, origin from events.rejected order by origin"
        until(lambda: len(kafka_engine.rows(query)) == len(broken))
    rows = kafka_engine.rows(query)
    assert [row["field"] for row in rows] == ["", "", "", "colour", ""]
    assert all("must be" in row["reason"] for row in rows)
    (event,) = kafka_engine.rows("select request_id, event_time from events.inference")
    assert event["event_time"] == moment
    assert event["request_id"].startswith(f"{kafka_engine.settings.kafka_prefix}inference/")
    for _ in range(2):
        assert replay(kafka_engine) == 6
        assert kafka_engine.rows(query) == rows
        assert stored(kafka_engine) == [event["request_id"]]


def test_no_message_stops_the_others(kafka_engine: Engine) -> None:
    """Nested too deep, no number, no date, sent when no time is: each a dead letter."""
    make_topics(kafka_engine.settings)
    sent_ms = int(datetime(2024, 5, 1, tzinfo=UTC).timestamp() * 1000)
    deep = b"[" * 2_000 + b"]" * 2_000
    timed = b'{"model": "m", "event_time": "2024-05-01T00:00:00Z"}'
    letter = {"topic": "a\x00", "field": "", "reason": "why", "payload": "{}"}
    broken: dict[str, list[bytes | None]] = {
        "inference": [
            deep, b'{"model": "m", "input": ' + deep + b"}", b'{"model": "m", "score": NaN}',
            b'{"model": "m", "score": ' + b"9" * 5_000 + b"}", b'{"model": "\\ud800"}', None,
            b'{"model": "m", "event_time": 1714564800000000}', b'{"model": "a\\u0000"}',
        ],
        "rejected": [deep, json.dumps(letter).encode(), json.dumps([letter]).encode()],
    }  # fmt: skip
    for topic, values in broken.items():
        produce(kafka_engine, topic, *values, timestamp_ms=sent_ms)
    # A clock in microseconds, which brokers refuse unless they are told otherwise.
    take_any_time(kafka_engine, "inference")
    produce(kafka_engine, "inference", b'{"model": "m"}', timed, timestamp_ms=sent_ms * 1000)
    produce(kafka_engine, "inference", b'{"model": "m"}', timestamp_ms=sent_ms)
    with ingesting(kafka_engine):
        until(lambda: len(stored(kafka_engine)) == 2)
        query = "select topic, field, reason, payload from events.rejected"
        until(lambda: len(kafka_engine.rows(query)) == 12)
    rows = kafka_engine.rows(query)
    assert all("must be" in row["reason"] and row["payload"] for row in rows)
    fields = sorted(row["field"] for row in rows if row["topic"] == "inference")
    assert fields == ["", "", "", "", "", "", "event_time", "event_time", "model"]
    times = kafka_engine.rows("select distinct event_time from events.inference")
    assert times == [{"event_time": datetime(2024, 5, 1, tzinfo=UTC)}]


def test_an_id_with_other_content_is_a_conflict_in_whatever_message(kafka_engine: Engine) -> None:
    """A repetition is none, though it says no time and comes at another."""
    make_topics(kafka_engine.settings)
    said = {"model": "m", "request_id": "r", "score": 0.5}
    timed = {**said, "request_id": "t", "event_time": "2024-05-01T00:00:00Z"}
    sent = [
        said, timed, said, timed, {**said, "score": 0.25}, {**said, "score": 0.25},
        {**timed, "event_time": "2024-05-01T00:00:01Z"},
    ]  # fmt: skip
    for at, payload in enumerate(sent):
        timestamp_ms = int(datetime(2024, 5, 1, 0, at, tzinfo=UTC).timestamp() * 1000)
        value = json.dumps(payload).encode()
        produce(kafka_engine, "inference", value, timestamp_ms=timestamp_ms)
    query = "select event_id, model, differing, times from headrace.conflicting_events order by 1"
    with ingesting(kafka_engine):
        until(lambda: sum(row["times"] for row in kafka_engine.rows(query)) == 3)
    assert [tuple(row.values()) for row in kafka_engine.rows(query)] == [
        ("r", "m", "score", 2), ("t", "m", "event_time", 1),
    ]  # fmt: skip
    assert replay(kafka_engine) == 7
    assert [row["event_id"] for row in kafka_engine.rows(query)] == ["r", "t"]
    scores = kafka_engine.rows("select score from events.inference order by request_id")
    assert scores == [{"score": 0.5}, {"score": 0.5}]


def test_a_time_that_nobody_said_makes_no_conflict_through_the_log(kafka_engine: Engine) -> None:
    said = {"model": "m", "request_id": "r"}
    with EventLog(kafka_engine) as log:
        for second in (1, 2):
            event = parse("inference", said, now=datetime(2024, 5, 1, 0, 0, second, tzinfo=UTC))
            log.append("inference", [Filled(event, ["event_time"])])
    with ingesting(kafka_engine):
        query = "select sum(next_offset)::int as read from control.consumed"
        until(lambda: kafka_engine.rows(query) == [{"read": 2}])
    (row,) = kafka_engine.rows("select event_time from events.inference")
    assert row["event_time"] == datetime(2024, 5, 1, 0, 0, 1, tzinfo=UTC)
    assert kafka_engine.rows("select * from headrace.conflicting_events") == []


def test_a_replay_into_an_empty_database_gives_the_same_rows(kafka_engine: Engine) -> None:
    with ingesting(kafka_engine), EventLog(kafka_engine) as log:
        for number in range(100):
            log.submit("inference", [inference(f"r-{number}", prediction="no", score=0.2)])
            log.submit("feedback", [feedback(f"r-{number}")])
        until(lambda: len(stored(kafka_engine)) == 200)
    views = "select * from panes.label_counts order by model, label"
    before = stored(kafka_engine), kafka_engine.rows(views)
    with kafka_engine.connect() as connection:
        connection.execute("truncate events.inference, events.feedback")
        for pane in ("labels", "label_counts", "inference_panes"):
            connection.execute(f"truncate panes.{pane}")
    assert replay(kafka_engine) == 200
    assert (stored(kafka_engine), kafka_engine.rows(views)) == before


def test_consumers_share_the_topics_and_may_come_and_go(kafka_engine: Engine) -> None:
    sent: list[str] = []

    def send_until(log: EventLog, batches: list[int]) -> None:
        """Send on until the consumer has stored some more."""
        before = len(batches)
        while len(batches) < before + 3:
            names = [f"r-{len(sent) + number}" for number in range(20)]
            log.append("inference", [inference(name) for name in names])
            sent.extend(names)

    # Tansu takes no new member after one that leaves while the group still divides its partitions,
    # so everyone stays until it has been given some.
    with EventLog(kafka_engine) as log:
        with ingesting(kafka_engine) as first:
            send_until(log, first)
            with ingesting(kafka_engine) as second:
                send_until(log, second)
                send_until(log, first)
            send_until(log, first)
            until(lambda: len(stored(kafka_engine)) == len(sent))
        with ingesting(kafka_engine) as third:
            send_until(log, third)
            until(lambda: len(stored(kafka_engine)) == len(sent))
    assert stored(kafka_engine) == sorted(sent)


def test_a_lost_database_connection_repeats_nothing(kafka_engine: Engine) -> None:
    names = [f"r-{number}" for number in range(2_000)]
    with ingesting(kafka_engine), EventLog(kafka_engine) as log:
        for at in range(0, 2_000, 100):
            log.append("inference", [inference(name) for name in names[at : at + 100]])
            kafka_engine.rows(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'headrace log' and datname = current_database()"
            )
        until(lambda: len(stored(kafka_engine)) == 2_000)
    assert stored(kafka_engine) == sorted(names)


def test_a_consumer_that_was_overtaken_lets_go(kafka_engine: Engine) -> None:
    from headrace.events.rows import Origin, event_row
    from headrace.events.tables import TableWriter

    def row(name: str, offset: int) -> Any:
        return event_row("inference", inference(name), Origin("t", 0, offset))

    one, two = TableWriter(kafka_engine), TableWriter(kafka_engine)
    one.write([row("a", 0), row("b", 1)])
    with pytest.raises(OvertakenError):
        two.write([row("b2", 1), row("c", 2)])
    two.write([row("c", 2)])
    assert stored(kafka_engine) == ["a", "b", "c"]
    one.close()
    two.close()

"""Faults of Kafka, on Tansu or on the brokers of HEADRACE_TEST_KAFKA."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from kafka import KafkaProducer, TopicPartition

from headrace.engine import Engine
from headrace.events.kafka.connection import client_options
from headrace.operate.doctor import kafka as doctor
from headrace.operate.doctor.examine import examine
from headrace.operate.doctor.kafka import Kept
from headrace.settings import Settings
from tests.operate.problems import problems
from tests.support.brokers import make_topics


def of_kafka(engine: Engine) -> list[tuple[str, str]]:
    """Return what is wrong with Kafka, except for topics with one replica: there is one broker."""
    found = problems(examine(engine.settings))
    assert all(check in ("topics", "brokers", "messages") for check, _ in found)
    return [each for each in found if "has one replica" not in each[1]]


def test_topics_as_the_settings_want_them(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    findings = list(examine(kafka_engine.settings))
    assert [each.check for each in findings if each.check == "brokers"]
    assert not of_kafka(kafka_engine)
    assert len(problems(findings)) == 4, "one replica of each topic is a warning"


def test_topics_that_are_missing_are_not_made_by_looking(kafka_engine: Engine) -> None:
    prefix = kafka_engine.settings.kafka_prefix
    for _ in range(2):
        assert of_kafka(kafka_engine) == [
            ("topics", f"{prefix}{topic} is missing")
            for topic in ("inference", "feedback", "model_events", "rejected")
        ]


def test_topics_that_are_other_than_the_settings(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    kafka_engine.settings = replace(
        kafka_engine.settings, kafka_partitions=12, kafka_retention_h=200_000
    )
    said = [says for _, says in of_kafka(kafka_engine)]
    prefix = kafka_engine.settings.kafka_prefix
    assert f"{prefix}inference has 4 partitions, not 12" in said
    assert f"{prefix}feedback keeps events for 100000 h, not 200000" in said


@pytest.mark.parametrize("policy", ["compact", "compact,delete", "delete"])
def test_a_topic_that_drops_all_but_the_last_event_of_a_key(policy: str) -> None:
    partition = {"replica_nodes": [1, 2], "isr_nodes": [1, 2]}
    found = doctor._topic(
        "t", [partition], {"cleanup.policy": policy}, Settings(kafka_partitions=1)
    )
    said = [each.says for each in found]
    assert len(said) == (policy != "delete") and all("t is compacted" in each for each in said)


def test_brokers_that_are_away(engine: Engine) -> None:
    engine.settings = replace(engine.settings, kafka="127.0.0.1:1")
    ((check, says),) = of_kafka(engine)
    assert check == "brokers"
    assert says == "Kafka at 127.0.0.1:1 cannot be used: nobody listens at 127.0.0.1:1"
    assert [each.do for each in examine(engine.settings) if each.check == "brokers"] == [
        "start the broker, or correct HEADRACE_KAFKA"
    ]


def test_messages_that_nobody_stores_and_a_clock_that_is_ahead(kafka_engine: Engine) -> None:
    settings = kafka_engine.settings
    make_topics(settings)
    producer = KafkaProducer(**client_options(settings))
    for ahead_s in (0, 3_500):  # brokers refuse more than an hour
        producer.send(
            f"{settings.kafka_prefix}feedback",
            value=b"{}",
            partition=ahead_s and 1,
            timestamp_ms=int(1000 * (time.time() + ahead_s)),
        ).get(timeout=10)
    producer.close()
    behind, ahead = of_kafka(kafka_engine)
    assert "messages behind: " in behind[1] and "none is being stored" in behind[1]
    assert "the clock of the sender of the newest message is 3" in ahead[1]


def test_a_sender_whose_clock_is_in_microseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {TopicPartition("t", 0): Kept(0, 1, int(1_000_000 * time.time()))}
    monkeypatch.setattr("headrace.operate.doctor.kafka._kept", lambda _: kept)
    (found,) = doctor.check_messages(Settings(), None)
    assert found.level == "failed" and "the clock of the sender of the newest message" in found.says


def test_messages_that_were_lost_are_told_for_a_week(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    with kafka_engine.connect() as connection:
        connection.execute(
            "insert into control.losses values ('t', 0, 'a', 10, 60, 'dropped', now()), "
            "('u', 0, 'a', 10, 60, 'dropped', now() - interval '8 days')"
        )
    ((check, says),) = of_kafka(kafka_engine)
    assert check == "messages" and "50 messages of t were lost unread" in says


@pytest.mark.parametrize(
    ("next_offset", "topic_id", "age_s", "level", "says"),
    [
        (100, "", 600, "ok", "messages behind: none"),
        (90, "b", 1, "ok", "messages behind: t 10"),
        (90, "", 600, "warning", "messages behind: t 10, and none is being stored"),
        (5, "", 1, "failed", "15 messages of t:0 were deleted unread"),
        (101, "", 1, "failed", "t:0 was read up to 101 and ends at 100: it was recreated"),
        (90, "a", 1, "warning", "t:0 was recreated since it was read"),
    ],
)
def test_how_far_a_partition_was_read(
    next_offset: int, topic_id: str, age_s: float, level: str, says: str
) -> None:
    stored_at = datetime.now(UTC) - timedelta(seconds=age_s)
    found = list(
        doctor._read(
            {TopicPartition("t", 0): Kept(20, 100, 0, "b")},
            {
                ("t", 0): {
                    "next_offset": next_offset,
                    "topic_id": topic_id,
                    "consumed_at": stored_at,
                }
            },
            ["t"],
            Settings(),
        )
    )
    assert (found[0].level, found[0].says) == (level, says)
    if topic_id == "a":
        assert found[1].says == "messages behind: t 80"


def test_topics_of_many_brokers() -> None:
    def said(copies: int, in_sync: int, config: dict[str, str]) -> list[str]:
        partition = {
            "replica_nodes": [*range(copies)],
            "isr_nodes": [*range(in_sync)],
        }
        settings = replace(Settings(), kafka_partitions=2, kafka_replicas=3)
        return [each.says for each in doctor._topic("t", [partition] * 2, config, settings)]

    sound = {"min.insync.replicas": "2", "retention.ms": "-1"}
    assert said(3, 3, sound) == []
    assert said(2, 2, sound) == ["t has 2 replicas, not 3"]
    assert said(3, 2, sound) == ["t: replicas of 2 partitions are not in sync"]
    assert said(3, 3, sound | {"min.insync.replicas": "1"}) == [
        "t acknowledges an event once a single broker has it"
    ]

"""Topics that are made anew, missing or grown while ingest reads them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.cluster import ClusterMetadata
from kafka.coordinator.consumer import ConsumerCoordinator

from headrace.engine import Engine
from headrace.events.kafka import consumer as reader
from headrace.events.kafka.consumer import open_consumer
from headrace.events.kafka.replay import replay
from headrace.events.kafka.topics import topic_name
from tests.support.brokers import make_topics, real
from tests.support.ingesting import ingesting, send, stored
from tests.support.waiting import until


def make_anew(admin: KafkaAdminClient, engine: Engine) -> None:
    admin.delete_topics([topic := topic_name(engine.settings, "inference")])
    until(lambda: topic not in admin.list_topics())
    # Kafka tells consumers, Tansu does not: ingest looks the topic up after a pause.
    time.sleep(2 * reader.PAUSE_S)
    admin.create_topics([NewTopic(topic, engine.settings.kafka_partitions, 1)])
    until(lambda: topic in admin.list_topics())


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("more", [30, 150])
def test_a_topic_made_anew_is_read_from_its_beginning(
    kafka_engine: Engine,
    admin: KafkaAdminClient,
    caplog: pytest.LogCaptureFixture,
    more: int,
    running: bool,
) -> None:
    make_topics(kafka_engine.settings)
    send(kafka_engine, [""] * 100)
    with ingesting(kafka_engine):
        until(lambda: len(stored(kafka_engine)) == 100)
        if running:
            make_anew(admin, kafka_engine)
            send(kafka_engine, [""] * more)
            until(lambda: len(stored(kafka_engine)) == 100 + more)
    if not running:
        make_anew(admin, kafka_engine)
        send(kafka_engine, [""] * more)
        with ingesting(kafka_engine):
            until(lambda: len(stored(kafka_engine)) == 100 + more)
    assert "was made anew" in caplog.text
    assert replay(kafka_engine) == more
    assert len(stored(kafka_engine)) == 100 + more


def test_a_missing_topic_is_waited_for_and_not_made(
    kafka_engine: Engine, admin: KafkaAdminClient
) -> None:
    make_topics(kafka_engine.settings)
    topic = topic_name(kafka_engine.settings, "inference")
    with ingesting(kafka_engine):
        send(kafka_engine, ["before"])
        until(lambda: stored(kafka_engine) == ["before"])
        admin.delete_topics([topic])
        send_on = time.monotonic() + 2
        until(lambda: time.monotonic() > send_on)
        assert topic not in admin.list_topics()
        admin.create_topics([NewTopic(topic, 4, 1)])
        send(kafka_engine, ["after"])
        until(lambda: stored(kafka_engine) == ["after", "before"])


def test_no_client_makes_topics_by_asking_for_them(kafka_engine: Engine) -> None:
    """By subscribe and assign, which do not pass the client's own setting on."""
    for options in ({}, {"group_id": "g"}):
        consumer = open_consumer(kafka_engine.settings, **options)
        consumer.subscribe(["nobody-made-it"])
        assert consumer._cluster.metadata_request().allow_auto_topic_creation is False
        consumer.close()


def test_new_partitions_and_topics_are_seen_soon(kafka_engine: Engine) -> None:
    consumer = open_consumer(kafka_engine.settings)
    assert consumer.config["metadata_max_age_ms"] <= 30_000
    assert consumer.config["isolation_level"] == "read_committed"
    consumer.close()


def test_partitions_that_nobody_has_met_are_asked_for(
    kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once: Tansu does not divide them among members that it has."""
    make_topics(kafka_engine.settings)
    everything = ClusterMetadata.partitions_for_topic
    asked: list[ConsumerCoordinator] = []

    def one(self: ClusterMetadata, topic: str) -> Any:
        return everything(self, topic) and {0}

    monkeypatch.setattr(ClusterMetadata, "partitions_for_topic", one)
    with ingesting(kafka_engine):
        send(kafka_engine, ["a"])
        until(lambda: stored(kafka_engine) == ["a"])
        monkeypatch.setattr(ConsumerCoordinator, "request_rejoin", lambda self: asked.append(self))
        monkeypatch.setattr(ClusterMetadata, "partitions_for_topic", everything)
        until(lambda: len(asked) == 1)
        send(kafka_engine, ["b"])
        until(lambda: stored(kafka_engine) == ["a", "b"])
    assert len(asked) == 1


@real
def test_grown_topics_are_read(kafka_engine: Engine, admin: KafkaAdminClient) -> None:
    make_topics(kafka_engine.settings)
    topic = topic_name(kafka_engine.settings, "inference")
    with ingesting(kafka_engine):
        send(kafka_engine, ["a"])
        until(lambda: stored(kafka_engine) == ["a"])
        admin.create_partitions({topic: 6})
        until(lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 6)
        send(kafka_engine, ["b"], partition=5)
        until(lambda: stored(kafka_engine) == ["a", "b"])

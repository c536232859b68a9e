"""Events for Kafka, a consumer of them in a thread, and what it has stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaProducer

from headrace.engine import Engine
from headrace.events.contract import Event, parse
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.ingest import ingest
from headrace.events.kafka.topics import topic_name
from tests.support.brokers import CONSUMER


def inference(request_id: str, **fields: Any) -> Event:
    return parse("inference", {"model": "m", "request_id": request_id, **fields})


def feedback(request_id: str) -> Event:
    return parse(
        "feedback", {"request_id": request_id, "feedback_id": f"f-{request_id}", "label": "yes"}
    )


@contextmanager
def ingesting(engine: Engine) -> Iterator[list[int]]:
    """Run one consumer in a thread; gives the sizes of the batches that it stored."""
    stopping = threading.Event()
    failed: list[BaseException] = []
    batches: list[int] = []

    def run() -> None:
        try:
            ingest(engine, stopping, batches.append, **CONSUMER)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield batches
    finally:
        stopping.set()
        thread.join(60)
        assert not thread.is_alive()
        assert not failed


def stored(engine: Engine) -> list[str]:
    rows = engine.rows(
        "select request_id as id from events.inference union all "
        "select feedback_id from events.feedback"
    )
    return sorted(row["id"] for row in rows)


def send(engine: Engine, names: list[str], partition: int = 0, **options: Any) -> None:
    """Send events to one partition; those without an id get one from their offset."""
    producer = KafkaProducer(**client_options(engine.settings), **options)
    for name in names:
        event = {"model": "m", "segment": name or None, "request_id": name}
        producer.send(
            topic_name(engine.settings, "inference"),
            json.dumps(event).encode(),
            partition=partition,
        )
    producer.flush()
    producer.close()


def produce(engine: Engine, topic: str, *values: bytes | None, timestamp_ms: int) -> None:
    producer = KafkaProducer(**client_options(engine.settings))
    for value in values:
        producer.send(
            engine.settings.kafka_prefix + topic, value=value, key=b"k", timestamp_ms=timestamp_ms
        ).get(30)
    producer.close()

"""The loop on the dialect stand-in: events go to Kafka, and PostgreSQL reads them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from headrace.engine import Engine
from headrace.events.kafka.ingest import ingest
from tests.support.brokers import CONSUMER


@pytest.fixture
def fed(kafka_engine: Engine, standin: Engine) -> Iterator[Engine]:
    """The stand-in with a consumer, as RisingWave reads topics by itself."""
    stop = threading.Event()
    reading = threading.Thread(target=ingest, args=(kafka_engine, stop), kwargs=CONSUMER)
    reading.start()
    settings = kafka_engine.settings
    try:
        yield Engine(
            standin.dsn,
            replace(standin.settings, kafka=settings.kafka, kafka_prefix=settings.kafka_prefix),
        )
    finally:
        stop.set()
        reading.join()


@pytest.fixture
def commanded(standin: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """The stand-in, as the engine that commands find in their environment."""
    values = {
        "ENGINE": "risingwave", "DSN": standin.dsn, "REGISTRY_DSN": standin.dsn,
        "KAFKA": "127.0.0.1:1", "HOME": str(standin.settings.home),
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    return standin

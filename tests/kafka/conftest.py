"""A broker of the Kafka protocol: Tansu from PyPI, or the one that HEADRACE_TEST_KAFKA names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from benchmarks.broker import Broker
from headrace.engine import Engine

# Tansu in tests: short sessions, so that a killed consumer is missed soon.
CONSUMER: dict[str, Any] = {
    "session_timeout_ms": 1_000,
    "heartbeat_interval_ms": 300,
    "fetch_max_wait_ms": 50,
}


@pytest.fixture(scope="session")
def brokers() -> Iterator[str]:
    """Address of brokers that all tests share; each takes topics of its own."""
    given = os.environ.get("HEADRACE_TEST_KAFKA")
    if given:
        yield given
        return
    broker = Broker()
    broker.start()
    try:
        yield broker.address
    finally:
        broker.stop()


@pytest.fixture
def kafka_engine(engine: Engine, brokers: str) -> Engine:
    """An engine whose events go to topics that no other test uses."""
    engine.settings = replace(
        engine.settings,
        kafka=brokers,
        kafka_prefix=f"t{uuid4().hex[:8]}.",
        kafka_partitions=4,
    )
    return engine

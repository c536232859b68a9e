"""An engine whose events go through a broker that all tests of a process share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import pytest

from headrace.engine import Engine
from tests.support.brokers import ACCESS, REAL


@pytest.fixture(scope="session")
def brokers() -> Iterator[str]:
    """Address of brokers that all tests share; each takes topics of its own."""
    if REAL:
        yield REAL
        return
    from benchmarks.broker import Broker  # not every system has its binary

    broker = Broker()
    broker.start()
    try:
        yield broker.address
    finally:
        broker.stop()


@pytest.fixture
def kafka_engine(engine: Engine, brokers: str) -> Engine:
    """An engine whose events go to topics that no other test uses, and that keep old ones, too."""
    engine.settings = replace(
        engine.settings,
        kafka=brokers,
        kafka_prefix=f"t{uuid4().hex[:8]}.",
        kafka_partitions=4,
        kafka_retention_h=100_000,
        **ACCESS,  # type: ignore[arg-type]
    )
    return engine

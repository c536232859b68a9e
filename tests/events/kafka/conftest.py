"""A client that changes topics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka.admin import KafkaAdminClient

from headrace.engine import Engine
from headrace.events.kafka.connection import client_options


@pytest.fixture
def admin(kafka_engine: Engine) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(**client_options(kafka_engine.settings))
    yield client
    client.close()

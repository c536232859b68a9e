"""Which broker tests use, and topics on it: Tansu from PyPI, or the one HEADRACE_TEST_KAFKA names.

How that one is reached say HEADRACE_TEST_KAFKA_SECURITY, _MECHANISM, _USER, _PASSWORD and _CA, as
the settings without TEST do.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from headrace.events.kafka import topics
from headrace.events.kafka.brokers import admin_client
from headrace.settings import Settings

REAL = os.environ.get("HEADRACE_TEST_KAFKA", "")
real = pytest.mark.skipif(not REAL, reason="needs Apache Kafka: HEADRACE_TEST_KAFKA")
ACCESS = {
    f"kafka_{name}": os.environ[variable]
    for name in ("security", "mechanism", "user", "password", "ca")
    if (variable := f"HEADRACE_TEST_KAFKA_{name.upper()}") in os.environ
}
# Short sessions, so that a killed consumer is missed soon: Apache Kafka takes no shorter one than
# `group.min.session.timeout.ms`. No members that outlive them: Tansu never divides their groups.
CONSUMER: dict[str, Any] = {
    "group_instance_id": None,
    "session_timeout_ms": 6_000 if REAL else 1_000,
    "heartbeat_interval_ms": 300,
    "fetch_max_wait_ms": 50,
}


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables with which a process of its own has these settings of Kafka."""
    return {
        f"HEADRACE_{name.upper()}": str(value)
        for name, value in vars(settings).items()
        if name.startswith("kafka")
    }


def make_topics(settings: Settings, *others: str) -> None:
    """Make the topics, over a client of their own."""
    with admin_client(settings) as admin:
        topics.make_topics(admin, settings, *others)


def await_leaders(settings: Settings, *others: str) -> None:
    """Wait for the leaders of the topics, over a client of their own."""
    with admin_client(settings) as admin:
        topics.await_leaders(admin, settings, *others)

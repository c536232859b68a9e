"""The brokers: how to reach them, and the topics that Headrace keeps there.

A topic's name is `kafka_prefix` and the contract's name of it. Messages are JSON as the contract
has it, in UTF-8. An answer and its feedback have the key `request_id`, so that both lie in
partitions of the same number; a model event has its model, a rejected payload its topic.
"""

from __future__ import annotations

import logging
from typing import Any

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from headrace.errors import EngineError, SettingError, one_line
from headrace.events import TOPICS
from headrace.rows import REJECTED
from headrace.settings import PREFIX, Settings

# Its own records of lost connections say less than the errors that reach us.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

BOOTSTRAP_TIMEOUT_MS = 10_000


class BrokerError(EngineError):
    """The brokers cannot be reached, or refuse."""


def topic_name(settings: Settings, topic: str) -> str:
    """Return what the brokers call a topic of the contract, or ``rejected``."""
    return settings.kafka_prefix + topic


def topic_names(settings: Settings) -> dict[str, str]:
    """Return the contract's name of each of our topics, by what the brokers call it."""
    return {topic_name(settings, topic): topic for topic in (*TOPICS, REJECTED)}


def access(settings: Settings) -> dict[str, Any]:
    """Return how a client of kafka-python reaches the brokers (holds the password).

    Raises:
        SettingError: no brokers are set.
    """
    servers = [each.strip() for each in settings.kafka.split(",") if each.strip()]
    if not servers:
        raise SettingError(f"{PREFIX}KAFKA: must be host:port of a broker, got nothing")
    known = {
        "bootstrap_servers": servers,
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "security_protocol": settings.kafka_security,
        "client_id": "headrace",
    }
    if settings.kafka_ca:
        known["ssl_cafile"] = settings.kafka_ca
    if settings.kafka_security.startswith("SASL"):
        known["sasl_mechanism"] = settings.kafka_mechanism
        known["sasl_plain_username"] = settings.kafka_user
        known["sasl_plain_password"] = settings.kafka_password
    return known


def make_topics(settings: Settings, *others: str) -> None:
    """Make the topics of the contract, and others, that are not there.

    Raises:
        BrokerError: the brokers cannot be reached or do not allow it.
    """
    wanted = [*topic_names(settings), *(topic_name(settings, topic) for topic in others)]
    try:
        admin = KafkaAdminClient(**access(settings))
    except KafkaError as error:
        raise unreachable(settings, error) from None
    try:
        missing = sorted(set(wanted) - set(admin.list_topics()))
        if missing:
            admin.create_topics([_new(name, settings) for name in missing])
    except TopicAlreadyExistsError:
        pass  # by another process, just now
    except KafkaError as error:
        raise unreachable(settings, error) from None
    finally:
        admin.close()


def unreachable(settings: Settings, error: Exception) -> BrokerError:
    """Return the error of brokers that cannot be used, in one line that says where they are."""
    return BrokerError(f"Kafka at {settings.kafka} cannot be used: {one_line(error)}")


def _new(name: str, settings: Settings) -> NewTopic:
    return NewTopic(
        name,
        num_partitions=settings.kafka_partitions,
        replication_factor=settings.kafka_replicas,
        topic_configs={
            "retention.ms": str(3_600_000 * settings.kafka_retention_h),
            "cleanup.policy": "delete",
        },
    )

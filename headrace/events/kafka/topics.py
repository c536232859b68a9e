"""The topics of Headrace: their names, making them, their leaders and limits.

A topic's name is the setting `kafka_prefix` and the contract's name. Messages are JSON in UTF-8 as
in the contract. The key of an inference and of its feedback is `request_id`, so that both are in
partitions of the same number; that of a model event is the model, of a rejected payload its topic.
"""

from __future__ import annotations

from contextlib import suppress

from kafka import TopicPartition
from kafka.admin import ConfigResource, KafkaAdminClient, NewTopic, OffsetSpec
from kafka.errors import KafkaError, TopicAlreadyExistsError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from headrace.events.contract import TOPICS
from headrace.events.rows import REJECTED
from headrace.settings import Settings

LEADERS_TIMEOUT_MS = 30_000
_LIMIT = "max.message.bytes"


def topic_name(settings: Settings, topic: str) -> str:
    """Return the name at the brokers of a topic of the contract, or of ``rejected``."""
    return settings.kafka_prefix + topic


def topic_names(settings: Settings) -> dict[str, str]:
    """Return the contract's name of each topic, by its name at the brokers."""
    return {topic_name(settings, topic): topic for topic in (*TOPICS, REJECTED)}


def make_topics(admin: KafkaAdminClient, settings: Settings, *others: str) -> None:
    """Make the missing ones of the topics of the contract, and of others."""
    missing = sorted(set(_all_names(settings, others)) - set(admin.list_topics()))
    if missing:
        with suppress(TopicAlreadyExistsError):  # made by another process, just now
            admin.create_topics([_new(name, settings) for name in missing])


def await_leaders(admin: KafkaAdminClient, settings: Settings, *others: str) -> None:
    """Wait until each partition of the topics of `make_topics` has a leader that knows it is one.

    Brokers may name a leader before it knows, so the leaders themselves are asked.

    Raises:
        KafkaError: they have none after LEADERS_TIMEOUT_MS.
    """
    wanted = _all_names(settings, others)
    admin.wait_for_topics(wanted, timeout_ms=LEADERS_TIMEOUT_MS)
    partitions = {
        TopicPartition(topic["name"], partition["partition_index"]): OffsetSpec.EARLIEST
        for topic in admin.describe_topics(wanted)
        for partition in topic["partitions"]
    }
    Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, KafkaError) and error.retriable),
        wait=wait_fixed(0.1),
        stop=stop_after_delay(LEADERS_TIMEOUT_MS / 1000),
        reraise=True,
    )(admin.list_partition_offsets, partitions, timeout_ms=1_000)


def message_limits(admin: KafkaAdminClient, settings: Settings) -> dict[str, int]:
    """Return the most bytes of a message, by the contract's name of its topic.

    What counts is the batch as it is sent. Topics are missing whose limit the brokers don't say.
    """
    names = topic_names(settings)
    wanted = [ConfigResource("TOPIC", name) for name in names]
    try:
        found = admin.describe_configs(wanted, config_filter="all").get("topic", {})
    except (KafkaError, ValueError):
        return {}  # brokers without this request, or a response that kafka-python can't read
    return {
        names[name]: int(configs[_LIMIT]["value"])
        for name, configs in found.items()
        if configs.get(_LIMIT, {}).get("value")
    }


def _all_names(settings: Settings, others: tuple[str, ...]) -> list[str]:
    return [*topic_names(settings), *(topic_name(settings, topic) for topic in others)]


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

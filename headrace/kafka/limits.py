"""How large a message may be, as the brokers have it for each topic."""

from __future__ import annotations

from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import KafkaError

from headrace.kafka.brokers import access, topic_names, unreachable
from headrace.settings import Settings

_LIMIT = "max.message.bytes"


def message_limits(settings: Settings) -> dict[str, int]:
    """Return how many bytes a message may have, by the contract's name of its topic.

    What counts is the batch as it is sent. A topic whose limit the brokers don't say is left out.

    Raises:
        BrokerError: the brokers cannot be reached.
    """
    names = topic_names(settings)
    try:
        admin = KafkaAdminClient(**access(settings))
    except KafkaError as error:
        raise unreachable(settings, error) from None
    try:
        wanted = [ConfigResource("TOPIC", name) for name in names]
        found = admin.describe_configs(wanted, config_filter="all").get("topic", {})
    except (KafkaError, ValueError):
        return {}  # brokers that don't know the question, or whose answer kafka-python can't read
    finally:
        admin.close()
    return {
        names[name]: int(configs[_LIMIT]["value"])
        for name, configs in found.items()
        if configs.get(_LIMIT, {}).get("value")
    }

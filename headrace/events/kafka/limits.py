"""How large a message may be, as the brokers have it for each topic."""

from __future__ import annotations

from kafka.admin import ConfigResource
from kafka.errors import KafkaError

from headrace.events.kafka.brokers import administering, topic_names
from headrace.settings import Settings

_LIMIT = "max.message.bytes"


def message_limits(settings: Settings) -> dict[str, int]:
    """Return how many bytes a message may have, by the contract's name of its topic.

    What counts is the batch as it is sent. A topic whose limit the brokers don't say is left out.

    Raises:
        BrokerError: the brokers cannot be reached.
    """
    names = topic_names(settings)
    wanted = [ConfigResource("TOPIC", name) for name in names]
    with administering(settings) as admin:
        try:
            found = admin.describe_configs(wanted, config_filter="all").get("topic", {})
        except (KafkaError, ValueError):
            return {}  # they don't know the question, or kafka-python can't read their answer
    return {
        names[name]: int(configs[_LIMIT]["value"])
        for name, configs in found.items()
        if configs.get(_LIMIT, {}).get("value")
    }

"""Brokers for the checks of Kafka."""

from tests.events.kafka.conftest import brokers, kafka_engine

__all__ = ["brokers", "kafka_engine"]

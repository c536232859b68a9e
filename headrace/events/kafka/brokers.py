"""The brokers: how to reach them, and the topics that Headrace keeps there.

A topic's name is `kafka_prefix` and the contract's name of it. Messages are JSON as the contract
has it, in UTF-8. An answer and its feedback have the key `request_id`, so that both lie in
partitions of the same number; a model event has its model, a rejected payload its topic.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic, OffsetSpec
from kafka.errors import AuthorizationError, KafkaError, TopicAlreadyExistsError
from kafka.net.compat import KafkaNetClient

from headrace.errors import BrokerError, SettingError, one_line
from headrace.events.contract import TOPICS
from headrace.events.kafka.reason import addresses, reason, tls
from headrace.events.rows import REJECTED
from headrace.settings import PREFIX, Settings

# Its own records of lost connections say less than the errors that reach us.
logging.getLogger("kafka").setLevel(logging.CRITICAL)
log = logging.getLogger(__name__)

BOOTSTRAP_TIMEOUT_MS = 10_000
LEADERS_TIMEOUT_MS = 30_000
# Between two tries to reach brokers that are away, in seconds: the first pause and the longest.
BACKOFF_S = (1.0, 30.0)


def topic_name(settings: Settings, topic: str) -> str:
    """Return what the brokers call a topic of the contract, or ``rejected``."""
    return settings.kafka_prefix + topic


def topic_names(settings: Settings) -> dict[str, str]:
    """Return the contract's name of each of our topics, by what the brokers call it."""
    return {topic_name(settings, topic): topic for topic in (*TOPICS, REJECTED)}


def access(settings: Settings) -> dict[str, Any]:
    """Return how a client of kafka-python reaches the brokers (holds the password).

    Raises:
        SettingError: what is set can never be right.
    """
    known = {
        "bootstrap_servers": [_server(*place) for place in addresses(settings)],
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "security_protocol": settings.kafka_security,
        "client_id": "headrace",
        "kafka_client": _client,
    }
    if settings.kafka_ca:
        tls(settings)
        known["ssl_cafile"] = settings.kafka_ca
    if settings.kafka_security.startswith("SASL"):
        for name in ("kafka_user", "kafka_password"):
            if not getattr(settings, name):
                raise SettingError(
                    f"{PREFIX}{name.upper()}: must be set with "
                    f"{PREFIX}KAFKA_SECURITY={settings.kafka_security}, got nothing"
                )
        known["sasl_mechanism"] = settings.kafka_mechanism
        known["sasl_plain_username"] = settings.kafka_user
        known["sasl_plain_password"] = settings.kafka_password
    return known


def reach(settings: Settings) -> None:
    """Raise BrokerError with the reason when no broker can be used."""
    if line := reason(settings):
        raise BrokerError(line)


def look(settings: Settings) -> None:
    """Log why no broker can be used, which what runs on waits for.

    Raises:
        SettingError: what is set can never be right.
    """
    access(settings)
    if line := reason(settings):
        log.warning("%s; events wait until then", line)


def insist(step: Callable[[], None], stopping: threading.Event | None = None) -> None:
    """Take a step until it is taken or `stopping` is set: brokers are waited for.

    Each try that fails is a line of the log.
    """
    stopping = stopping or threading.Event()
    pause, longest = BACKOFF_S
    while not stopping.is_set():
        try:
            step()
        except BrokerError as error:
            log.warning("%s; trying again in %.0f s", error, pause)
            stopping.wait(pause)
            pause = min(2 * pause, longest)
        else:
            return


@contextmanager
def administering(settings: Settings) -> Iterator[KafkaAdminClient]:
    """Give a client that asks brokers about topics and changes them.

    Raises:
        BrokerError: the brokers cannot be reached, or refuse what the block asks.
    """
    reach(settings)  # a client that finds nobody leaves a thread behind
    try:
        admin = KafkaAdminClient(**access(settings))
        try:
            yield admin
        finally:
            admin.close()
    except KafkaError as error:
        raise unreachable(settings, error) from None


def make_topics(settings: Settings, *others: str) -> None:
    """Make the topics of the contract, and others, that are not there.

    Raises:
        BrokerError: the brokers cannot be reached or do not allow it.
    """
    wanted = [*topic_names(settings), *(topic_name(settings, topic) for topic in others)]
    with administering(settings) as admin:
        missing = sorted(set(wanted) - set(admin.list_topics()))
        if missing:
            with suppress(TopicAlreadyExistsError):  # made by another process, just now
                admin.create_topics([_new(name, settings) for name in missing])


def await_leaders(settings: Settings, *others: str) -> None:
    """Return once each partition of the topics of `make_topics` has a leader that says it is one.

    A broker may name a leader before that one knows, so the leaders themselves are asked.

    Raises:
        BrokerError: they have none after LEADERS_TIMEOUT_MS, or the brokers cannot be reached.
    """
    wanted = [*topic_names(settings), *(topic_name(settings, topic) for topic in others)]
    with administering(settings) as admin:
        admin.wait_for_topics(wanted, timeout_ms=LEADERS_TIMEOUT_MS)
        first = {
            TopicPartition(topic["name"], partition["partition_index"]): OffsetSpec.EARLIEST
            for topic in admin.describe_topics(wanted)
            for partition in topic["partitions"]
        }
        end = time.monotonic() + LEADERS_TIMEOUT_MS / 1000
        while not _answer(admin, first, until=end):
            time.sleep(0.1)


def _answer(
    admin: KafkaAdminClient, places: dict[TopicPartition, OffsetSpec], *, until: float
) -> bool:
    try:
        admin.list_partition_offsets(places, timeout_ms=1_000)
    except KafkaError as error:
        if not error.retriable or time.monotonic() > until:
            raise
        return False
    return True


def unreachable(settings: Settings, error: Exception) -> BrokerError:
    """Return the error of brokers that cannot be used, in one line that says where they are."""
    says = f"Kafka at {settings.kafka} cannot be used: {one_line(error)}"
    if isinstance(error, AuthorizationError):
        says += (
            f"; the user {settings.kafka_user!r} needs Read, Write, Create, Describe and "
            f"DescribeConfigs on topics, and Read on groups, whose names begin with "
            f"{settings.kafka_prefix}: kafka-acls --add --resource-pattern-type prefixed"
        )
    return BrokerError(says)


def _server(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _client(**options: Any) -> KafkaNetClient:
    """Return a client whose questions make no topic: brokers would, with defaults of their own."""
    client = KafkaNetClient(**options)
    client.cluster.config["allow_auto_create_topics"] = False
    return client


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

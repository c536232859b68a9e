"""The brokers: whether they can be used, waiting for them, and a client to administer topics."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kafka.admin import KafkaAdminClient
from kafka.errors import AuthorizationError, KafkaError

from headrace.errors import BrokerError, one_line
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.diagnosis import diagnose
from headrace.settings import Settings

# kafka-python logs every lost connection; the errors that it raises say more.
logging.getLogger("kafka").setLevel(logging.CRITICAL)
logger = logging.getLogger(__name__)

# Seconds between two tries to reach the brokers: the first pause and the longest.
BACKOFF_S = (1.0, 30.0)


def require_brokers(settings: Settings) -> None:
    """Raise BrokerError with the reason when no broker can be used.

    Call it before making a client: one that finds no broker leaves a thread behind.
    """
    if reason := diagnose(settings):
        raise BrokerError(reason)


def warn_without_brokers(settings: Settings) -> None:
    """Log why no broker can be used, for a process that waits for them.

    Raises:
        SettingError: the settings are wrong, so that waiting does not help.
    """
    client_options(settings)
    if reason := diagnose(settings):
        logger.warning("%s; events wait until then", reason)


def retry_without_brokers(
    step: Callable[[], None], stopping: threading.Event | None = None
) -> None:
    """Call `step` until it raises no BrokerError, or `stopping` is set. Each failure is logged.

    A loop and not `tenacity`, which would call the step once more after the stop.
    """
    stopping = stopping or threading.Event()
    pause, longest = BACKOFF_S
    while not stopping.is_set():
        try:
            step()
        except BrokerError as error:
            logger.warning("%s; trying again in %.0f s", error, pause)
            stopping.wait(pause)
            pause = min(2 * pause, longest)
        else:
            return


@contextmanager
def admin_client(settings: Settings) -> Iterator[KafkaAdminClient]:
    """Give a client that reads and changes topics.

    Raises:
        BrokerError: the brokers cannot be reached, or refuse what the block asks.
    """
    require_brokers(settings)
    try:
        admin = KafkaAdminClient(**client_options(settings))
        try:
            yield admin
        finally:
            admin.close()
    except KafkaError as error:
        raise broker_error(settings, error) from None


def broker_error(settings: Settings, error: Exception) -> BrokerError:
    """Return an error of kafka-python as one line that names the brokers."""
    message = f"Kafka at {settings.kafka} cannot be used: {one_line(error)}"
    if isinstance(error, AuthorizationError):
        message += (
            f"; the user {settings.kafka_user!r} needs Read, Write, Create, Describe and "
            f"DescribeConfigs on topics, and Read on groups, whose names begin with "
            f"{settings.kafka_prefix}: kafka-acls --add --resource-pattern-type prefixed"
        )
    return BrokerError(message)

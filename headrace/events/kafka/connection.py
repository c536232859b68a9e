"""How the settings say that brokers are reached: addresses, TLS, login."""

from __future__ import annotations

import ssl
from typing import Any

from kafka.cluster import collect_hosts
from kafka.net.compat import KafkaNetClient

from headrace.errors import SettingError
from headrace.settings import PREFIX, Settings

BOOTSTRAP_TIMEOUT_MS = 10_000


def addresses(settings: Settings) -> list[tuple[str, int]]:
    """Return host and port of each broker in the settings.

    Raises:
        SettingError: there is none, or it is not host:port.
    """
    servers = [each.strip() for each in settings.kafka.split(",") if each.strip()]
    if not servers:
        raise SettingError(f"{PREFIX}KAFKA: must be host:port of a broker, got nothing")
    try:
        found = [(host, port) for host, port, _ in collect_hosts(servers, randomize=False)]
    except ValueError:
        found = []
    if not found or not all(host and 0 < port < 65536 for host, port in found):
        raise SettingError(f"{PREFIX}KAFKA: must be host:port,..., got {settings.kafka!r}")
    return found


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Return the context that checks certificates of brokers.

    Raises:
        SettingError: the file of `kafka_ca` has no certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not settings.kafka_ca:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(settings.kafka_ca)
    except OSError as error:
        why = "which has none" if isinstance(error, ssl.SSLError) else error.strerror
        raise SettingError(
            f"{PREFIX}KAFKA_CA: must be a file of certificates (PEM), "
            f"got {settings.kafka_ca!r}: {why}"
        ) from None
    return context


def client_options(settings: Settings) -> dict[str, Any]:
    """Return the options of a client of kafka-python, the password among them.

    Raises:
        SettingError: the settings are wrong, whatever the brokers are.
    """
    options = {
        "bootstrap_servers": [_server(host, port) for host, port in addresses(settings)],
        "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
        "security_protocol": settings.kafka_security,
        "client_id": "headrace",
        "kafka_client": _client,
    }
    if settings.kafka_ca:
        tls_context(settings)
        options["ssl_cafile"] = settings.kafka_ca
    if settings.kafka_security.startswith("SASL"):
        for name in ("kafka_user", "kafka_password"):
            if not getattr(settings, name):
                raise SettingError(
                    f"{PREFIX}{name.upper()}: must be set with "
                    f"{PREFIX}KAFKA_SECURITY={settings.kafka_security}, got nothing"
                )
        options["sasl_mechanism"] = settings.kafka_mechanism
        options["sasl_plain_username"] = settings.kafka_user
        options["sasl_plain_password"] = settings.kafka_password
    return options


def _server(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _client(**options: Any) -> KafkaNetClient:
    """Return a client that creates no topic by asking for it: brokers would use their defaults."""
    client = KafkaNetClient(**options)
    client.cluster.config["allow_auto_create_topics"] = False
    return client

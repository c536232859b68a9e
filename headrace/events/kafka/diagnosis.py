"""Why brokers cannot be used: the steps of a client, one by one, until one fails.

kafka-python reports "Unable to bootstrap" after ten seconds, whatever is wrong. Here each step is
tried by itself: look up the name, open the port, TLS, login, and the address that the broker
advertises to clients. The first step that fails is the reason.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from kafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from headrace.errors import SettingError, one_line
from headrace.events.kafka.connection import addresses, tls_context
from headrace.settings import PREFIX, Settings

# Of each step. A healthy broker takes milliseconds.
TIMEOUT_S = 2.0
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_UNSUPPORTED_MECHANISM, _NO_SASL_HERE = 33, 34
# OpenSSL's codes for what is wrong with a certificate.
_EXPIRED, _NOT_YET, _OTHER_NAME = {10}, {9}, {62, 64}
_UNKNOWN_ISSUER = {2, 7, 18, 19, 20, 21, 27}


class FailedStep(Exception):
    """A step that failed: what is wrong and what to do. `step` counts the steps before it."""

    def __init__(self, step: int, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.step = step


class NoResponseError(Exception):
    """The other side hung up, or sent something that is no response of a broker."""


def diagnose(settings: Settings) -> str | None:
    """Return why no broker can be used, and what to do, in one line; None when one can be used.

    It takes a few seconds at most and changes nothing. The line holds no password.

    Raises:
        SettingError: the setting `kafka` is not host:port,...
    """
    brokers = addresses(settings)
    with ThreadPoolExecutor(len(brokers)) as pool:
        failures = list(pool.map(lambda broker: _failure(settings, *broker), brokers))
    if any(failure is None for failure in failures):
        return None
    furthest = max((failure for failure in failures if failure), key=lambda each: each.step)
    return f"Kafka at {settings.kafka} cannot be used: {one_line(furthest)}"


def _failure(settings: Settings, host: str, port: int) -> FailedStep | None:
    try:
        _use(settings, host, port)
    except FailedStep as failure:
        return failure
    except SettingError as error:
        return FailedStep(2, str(error), "put it there")
    except (NoResponseError, OSError) as error:
        return _wrong_protocol(settings, host, port, error)
    except IncompatibleBrokerVersion:
        return FailedStep(
            2, f"{host}:{port} is no listener for clients (a controller's, or a very old broker's)",
            f"correct the port in {PREFIX}KAFKA",
        )  # fmt: skip
    except (KafkaError, ValueError):
        return None  # kafka-python may know better
    return None


def _use(settings: Settings, host: str, port: int) -> None:
    with _connected(host, port) as plain, _secured(plain, host, settings) as sock:
        conversation = Conversation(sock)
        if settings.kafka_security.startswith("SASL"):
            _log_in(conversation, settings)
        brokers = conversation.send(_metadata_request()).brokers
    failures: list[Exception] = []
    for broker in brokers:
        if (broker.host, broker.port) == (host, port):
            return
        try:
            with (
                _connected(broker.host, broker.port) as plain,
                _secured(plain, broker.host, settings),
            ):
                return
        except (FailedStep, OSError) as error:
            failures.append(error)
    if failures:
        first = brokers[0]
        raise FailedStep(
            5,
            f"{host}:{port} answers, and sends clients to {first.host}:{first.port}, "
            f"which does not work from here ({str(failures[0]).partition(';')[0]})",
            "correct advertised.listeners of the broker",
        )


@contextmanager
def _connected(host: str, port: int) -> Iterator[socket.socket]:
    correct = f"correct {PREFIX}KAFKA"
    try:
        sock = socket.create_connection((host, port), TIMEOUT_S)
    except (socket.gaierror, UnicodeError):
        raise FailedStep(
            0, f"there is no host named {host}", f"{correct}, or the name service"
        ) from None
    except ConnectionRefusedError:
        raise FailedStep(
            1, f"nobody listens at {host}:{port}", f"start the broker, or {correct}"
        ) from None
    except TimeoutError:
        raise FailedStep(
            1, f"{host}:{port} does not answer", f"check the network, or {correct}"
        ) from None
    except OSError as error:
        raise FailedStep(
            1, f"{host}:{port} cannot be reached ({error.strerror or error})", correct
        ) from None
    with sock:
        yield sock


@contextmanager
def _secured(plain: socket.socket, host: str, settings: Settings) -> Iterator[socket.socket]:
    """Give the socket, inside TLS if the settings say so."""
    if not settings.kafka_security.endswith("SSL"):
        yield plain
        return
    try:
        sock = tls_context(settings).wrap_socket(plain, server_hostname=host.rstrip("."))
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(error, host, settings) from None
    with sock:
        yield sock


def _untrusted(error: ssl.SSLCertVerificationError, host: str, settings: Settings) -> FailedStep:
    if error.verify_code in _OTHER_NAME:
        return FailedStep(
            3, f"the broker's certificate is not for the name {host}",
            f"use a name of the certificate in {PREFIX}KAFKA, or add this one to it",
        )  # fmt: skip
    if error.verify_code in _EXPIRED | _NOT_YET:
        when = "has expired" if error.verify_code in _EXPIRED else "is not valid yet"
        return FailedStep(
            3, f"the broker's certificate, or one that signed it, {when}",
            "renew it, or set the clock of this machine",
        )  # fmt: skip
    if error.verify_code in _UNKNOWN_ISSUER:
        by = f"by those of {settings.kafka_ca}" if settings.kafka_ca else "by who is trusted here"
        return FailedStep(
            3, f"the broker's certificate of {host} is not signed {by}",
            f"set {PREFIX}KAFKA_CA to the file of the authority that signed it",
        )  # fmt: skip
    return FailedStep(
        3, f"the broker's certificate is refused ({error.verify_message})",
        f"correct it, or {PREFIX}KAFKA_CA",
    )  # fmt: skip


def _log_in(conversation: Conversation, settings: Settings) -> None:
    mechanism = settings.kafka_mechanism
    shaken = conversation.send(SaslHandshakeRequest(mechanism=mechanism, max_version=1))
    if shaken.error_code == _NO_SASL_HERE:
        protocol = settings.kafka_security.removeprefix("SASL_")
        raise FailedStep(2, "no login is asked for there", f"set {PREFIX}KAFKA_SECURITY={protocol}")
    if shaken.error_code == _UNSUPPORTED_MECHANISM or mechanism not in shaken.mechanisms:
        ours = [each for each in MECHANISMS if each in shaken.mechanisms]
        raise FailedStep(
            4, f"{mechanism} is not offered, but {', '.join(shaken.mechanisms) or 'nothing'}",
            f"set {PREFIX}KAFKA_MECHANISM={ours[0]}" if ours
            else f"have the broker offer one of {', '.join(MECHANISMS)}",
        )  # fmt: skip
    login = get_sasl_mechanism(mechanism)(
        sasl_mechanism=mechanism,
        sasl_plain_username=settings.kafka_user,
        sasl_plain_password=settings.kafka_password,
    )
    while not login.is_done():
        response = conversation.send(SaslAuthenticateRequest(login.auth_bytes()))
        if response.error_code:
            why = response.error_message or for_code(response.error_code).__name__
            if settings.kafka_password:
                why = why.replace(settings.kafka_password, "***")
            its = f", or its credentials for {mechanism}" if mechanism != "PLAIN" else ""
            raise FailedStep(
                4, f"user {settings.kafka_user!r} is not let in ({why})",
                f"correct {PREFIX}KAFKA_USER or {PREFIX}KAFKA_PASSWORD{its}",
            )  # fmt: skip
        login.receive(response.auth_bytes)


def _metadata_request() -> MetadataRequest:
    return MetadataRequest(topics=[], allow_auto_topic_creation=False)


def _wrong_protocol(settings: Settings, host: str, port: int, error: Exception) -> FailedStep:
    """Find out which protocol a broker speaks that hung up or sent no response."""
    ours = "SSL" if settings.kafka_security.endswith("SSL") else "PLAINTEXT"
    if ours == "SSL" and _wants_certificate(host, port):
        return FailedStep(
            4, f"{host}:{port} wants a certificate of the client, which Headrace does not have",
            "use a listener with SASL_SSL",
        )  # fmt: skip
    other = {"SSL": "PLAINTEXT", "PLAINTEXT": "SSL"}[ours]
    for transport in (other,) if isinstance(error, TimeoutError) else (ours, other):
        spoken = _spoken(host, port, transport)
        if spoken and spoken != settings.kafka_security:
            return FailedStep(
                2, f"{host}:{port} speaks {spoken}, not {settings.kafka_security}",
                f"set {PREFIX}KAFKA_SECURITY={spoken}, or correct the port in {PREFIX}KAFKA",
            )  # fmt: skip
    return FailedStep(
        2, f"{host}:{port} takes connections and does not answer as a broker ({error})",
        f"check the broker, or correct the port in {PREFIX}KAFKA",
    )  # fmt: skip


def _spoken(host: str, port: int, transport: str) -> str | None:
    """Return the protocol of a listener over PLAINTEXT or SSL; None when it is not Kafka's."""
    try:
        with _connected(host, port) as plain, _unverified(plain, transport) as sock:
            conversation = Conversation(sock)
            try:
                conversation.send(_metadata_request())
            except (NoResponseError, OSError):  # as brokers do when a login is missing
                return f"SASL_{transport}"
            return transport
    except (NoResponseError, FailedStep, OSError, KafkaError, ValueError):
        return None


def _wants_certificate(host: str, port: int) -> bool:
    """Whether a broker sends the alert that it requires a certificate of the client."""
    try:
        with _connected(host, port) as plain, _unverified(plain, "SSL") as sock:
            sock.settimeout(TIMEOUT_S / 4)
            sock.recv(1)
    except ssl.SSLError as error:
        return "CERTIFICATE" in str(error)
    except (FailedStep, OSError):
        pass
    return False


@contextmanager
def _unverified(plain: socket.socket, transport: str) -> Iterator[socket.socket]:
    """Give the socket, inside TLS for SSL. Certificates are not checked: no secret is sent."""
    if transport != "SSL":
        yield plain
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(plain) as sock:
        yield sock


class Conversation:
    """Requests and responses over one connection, in the versions that the broker knows."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._protocol = KafkaProtocol(client_id="headrace", receive_message_max_bytes=1_000_000)
        response = self._send(ApiVersionsRequest(version=0))
        known = {each.api_key: (each.min_version, each.max_version) for each in response.api_keys}
        self._versions = BrokerVersionData(api_versions=known)

    def send(self, request: Any) -> Any:
        """Send a request and return the response.

        Raises:
            NoResponseError: there is none.
        """
        request.API_VERSION = self._versions.api_version(request)
        return self._send(request)

    def _send(self, request: Any) -> Any:
        self._protocol.send_request(request)
        self._sock.sendall(self._protocol.send_bytes())
        while True:
            data = self._sock.recv(65_536)
            if not data:
                raise NoResponseError("it hung up")
            try:
                responses = self._protocol.receive_bytes(data)
            except KafkaError as error:
                raise NoResponseError("what came is no response of a broker") from error
            if responses:
                return responses[0][1]

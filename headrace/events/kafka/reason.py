"""Why brokers cannot be used: one look at each of them, step by step, as a client takes the steps.

kafka-python says "Unable to bootstrap" after ten seconds, whatever the brokers answered. Here the
name is looked up, the port opened, TLS spoken, the user logged in, and the address tried that the
broker gives to clients; the first step that fails is the reason.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from kafka.cluster import collect_hosts
from kafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from headrace.errors import SettingError, one_line
from headrace.settings import PREFIX, Settings

# Of each step; a broker that is there takes milliseconds.
TIMEOUT_S = 2.0
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_UNSUPPORTED_MECHANISM, _NO_SASL_HERE = 33, 34
# What OpenSSL calls the faults of a certificate.
_EXPIRED, _NOT_YET, _OTHER_NAME = {10}, {9}, {62, 64}
_UNKNOWN_ISSUER = {2, 7, 18, 19, 20, 21, 27}


class Fault(Exception):
    """A step that failed: what is wrong, and what to do. A later `step` is nearer to the goal."""

    def __init__(self, step: int, says: str, do: str) -> None:
        super().__init__(f"{says}; {do}")
        self.step = step


class Broken(Exception):
    """What came is no answer of a broker, or none came."""


def reason(settings: Settings) -> str | None:
    """Return why no broker can be used, in a line that says what to do; None when one can be.

    It takes a few seconds at most, holds no password and changes nothing.

    Raises:
        SettingError: the setting `kafka` is not host:port,...
    """
    places = addresses(settings)
    with ThreadPoolExecutor(len(places)) as pool:
        faults = list(pool.map(lambda place: _fault(settings, *place), places))
    if any(fault is None for fault in faults):
        return None
    worst = max((fault for fault in faults if fault), key=lambda fault: fault.step)
    return f"Kafka at {settings.kafka} cannot be used: {one_line(worst)}"


def addresses(settings: Settings) -> list[tuple[str, int]]:
    """Return host and port of each broker that is set.

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


def tls(settings: Settings) -> ssl.SSLContext:
    """Return how certificates of brokers are checked.

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


def _fault(settings: Settings, host: str, port: int) -> Fault | None:
    try:
        _use(settings, host, port)
    except Fault as fault:
        return fault
    except SettingError as error:
        return Fault(2, str(error), "put it there")
    except (Broken, OSError) as error:
        return _misunderstood(settings, host, port, error)
    except IncompatibleBrokerVersion:
        return Fault(
            2, f"{host}:{port} is no listener for clients (a controller's, or a very old broker's)",
            f"mend the port in {PREFIX}KAFKA",
        )  # fmt: skip
    except (KafkaError, ValueError):
        return None  # kafka-python may know better
    return None


def _use(settings: Settings, host: str, port: int) -> None:
    with _connected(host, port) as plain, _secured(plain, host, settings) as sock:
        talk = Talk(sock)
        if settings.kafka_security.startswith("SASL"):
            _log_in(talk, settings)
        brokers = talk.ask(MetadataRequest(topics=[], allow_auto_topic_creation=False)).brokers
    faults: list[Exception] = []
    for broker in brokers:
        if (broker.host, broker.port) == (host, port):
            return
        try:
            with (
                _connected(broker.host, broker.port) as plain,
                _secured(plain, broker.host, settings),
            ):
                return
        except (Fault, OSError) as error:
            faults.append(error)
    if faults:
        first = brokers[0]
        raise Fault(
            5,
            f"{host}:{port} answers, and sends clients to {first.host}:{first.port}, "
            f"which does not work from here ({str(faults[0]).partition(';')[0]})",
            "mend advertised.listeners of the broker",
        )


@contextmanager
def _connected(host: str, port: int) -> Iterator[socket.socket]:
    mend = f"mend {PREFIX}KAFKA"
    try:
        sock = socket.create_connection((host, port), TIMEOUT_S)
    except (socket.gaierror, UnicodeError):
        raise Fault(0, f"there is no host named {host}", f"{mend}, or the name service") from None
    except ConnectionRefusedError:
        raise Fault(1, f"nobody listens at {host}:{port}", f"start the broker, or {mend}") from None
    except TimeoutError:
        raise Fault(
            1, f"{host}:{port} does not answer", f"look after the network, or {mend}"
        ) from None
    except OSError as error:
        raise Fault(
            1, f"{host}:{port} cannot be reached ({error.strerror or error})", mend
        ) from None
    with sock:
        yield sock


@contextmanager
def _secured(plain: socket.socket, host: str, settings: Settings) -> Iterator[socket.socket]:
    """Give the socket, with TLS around it where the settings want that."""
    if not settings.kafka_security.endswith("SSL"):
        yield plain
        return
    try:
        sock = tls(settings).wrap_socket(plain, server_hostname=host.rstrip("."))
    except ssl.SSLCertVerificationError as error:
        raise _distrusted(error, host, settings) from None
    with sock:
        yield sock


def _distrusted(error: ssl.SSLCertVerificationError, host: str, settings: Settings) -> Fault:
    if error.verify_code in _OTHER_NAME:
        return Fault(
            3, f"the broker's certificate is not for the name {host}",
            f"use a name of the certificate in {PREFIX}KAFKA, or add this one to it",
        )  # fmt: skip
    if error.verify_code in _EXPIRED | _NOT_YET:
        when = "has expired" if error.verify_code in _EXPIRED else "is not valid yet"
        return Fault(
            3, f"the broker's certificate, or one that signed it, {when}",
            "renew it, or set the clock of this machine",
        )  # fmt: skip
    if error.verify_code in _UNKNOWN_ISSUER:
        by = f"by those of {settings.kafka_ca}" if settings.kafka_ca else "by who is trusted here"
        return Fault(
            3, f"the broker's certificate of {host} is not signed {by}",
            f"set {PREFIX}KAFKA_CA to the file of the authority that signed it",
        )  # fmt: skip
    return Fault(
        3, f"the broker's certificate is refused ({error.verify_message})",
        f"mend it, or {PREFIX}KAFKA_CA",
    )  # fmt: skip


def _log_in(talk: Talk, settings: Settings) -> None:
    mechanism = settings.kafka_mechanism
    shaken = talk.ask(SaslHandshakeRequest(mechanism=mechanism, max_version=1))
    if shaken.error_code == _NO_SASL_HERE:
        protocol = settings.kafka_security.removeprefix("SASL_")
        raise Fault(2, "no login is asked for there", f"set {PREFIX}KAFKA_SECURITY={protocol}")
    if shaken.error_code == _UNSUPPORTED_MECHANISM or mechanism not in shaken.mechanisms:
        ours = [each for each in MECHANISMS if each in shaken.mechanisms]
        raise Fault(
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
        answer = talk.ask(SaslAuthenticateRequest(login.auth_bytes()))
        if answer.error_code:
            why = answer.error_message or for_code(answer.error_code).__name__
            if settings.kafka_password:
                why = why.replace(settings.kafka_password, "***")
            its = f", or its credentials for {mechanism}" if mechanism != "PLAIN" else ""
            raise Fault(
                4, f"user {settings.kafka_user!r} is not let in ({why})",
                f"mend {PREFIX}KAFKA_USER or {PREFIX}KAFKA_PASSWORD{its}",
            )  # fmt: skip
        login.receive(answer.auth_bytes)


def _misunderstood(settings: Settings, host: str, port: int, error: Exception) -> Fault:
    """Find out what a broker speaks that hung up, or sent no answer."""
    ours = "SSL" if settings.kafka_security.endswith("SSL") else "PLAINTEXT"
    if ours == "SSL" and _wants_certificate(host, port):
        return Fault(
            4, f"{host}:{port} wants a certificate of the client, which Headrace does not have",
            "use a listener with SASL_SSL",
        )  # fmt: skip
    other = {"SSL": "PLAINTEXT", "PLAINTEXT": "SSL"}[ours]
    for transport in (other,) if isinstance(error, TimeoutError) else (ours, other):
        spoken = _spoken(host, port, transport)
        if spoken and spoken != settings.kafka_security:
            return Fault(
                2, f"{host}:{port} speaks {spoken}, not {settings.kafka_security}",
                f"set {PREFIX}KAFKA_SECURITY={spoken}, or mend the port in {PREFIX}KAFKA",
            )  # fmt: skip
    return Fault(
        2, f"{host}:{port} takes connections and does not answer as a broker ({error})",
        f"look after the broker, or mend the port in {PREFIX}KAFKA",
    )  # fmt: skip


def _spoken(host: str, port: int, transport: str) -> str | None:
    """Return the protocol of a listener over PLAINTEXT or SSL; None when it is another one."""
    try:
        with _connected(host, port) as plain, _unverified(plain, transport) as sock:
            talk = Talk(sock)
            try:
                talk.ask(MetadataRequest(topics=[], allow_auto_topic_creation=False))
            except (Broken, OSError):  # as brokers do before a login
                return f"SASL_{transport}"
            return transport
    except (Broken, Fault, OSError, KafkaError, ValueError):
        return None


def _wants_certificate(host: str, port: int) -> bool:
    """Listen for the alert of a broker that lets in only clients with a certificate."""
    try:
        with _connected(host, port) as plain, _unverified(plain, "SSL") as sock:
            sock.settimeout(TIMEOUT_S / 4)
            sock.recv(1)
    except ssl.SSLError as error:
        return "CERTIFICATE" in str(error)
    except (Fault, OSError):
        pass
    return False


@contextmanager
def _unverified(plain: socket.socket, transport: str) -> Iterator[socket.socket]:
    """Give the socket, for SSL with TLS around it: whoever answers is told nothing."""
    if transport != "SSL":
        yield plain
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with context.wrap_socket(plain) as sock:
        yield sock


class Talk:
    """Questions and answers over one connection, in the versions that the broker knows."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._protocol = KafkaProtocol(client_id="headrace", receive_message_max_bytes=1_000_000)
        answer = self._ask(ApiVersionsRequest(version=0))
        known = {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys}
        self._versions = BrokerVersionData(api_versions=known)

    def ask(self, request: Any) -> Any:
        """Return the answer.

        Raises:
            Broken: there is none.
        """
        request.API_VERSION = self._versions.api_version(request)
        return self._ask(request)

    def _ask(self, request: Any) -> Any:
        self._protocol.send_request(request)
        self._sock.sendall(self._protocol.send_bytes())
        while True:
            data = self._sock.recv(65_536)
            if not data:
                raise Broken("it hung up")
            try:
                answers = self._protocol.receive_bytes(data)
            except KafkaError as error:
                raise Broken("what came is no answer of a broker") from error
            if answers:
                return answers[0][1]

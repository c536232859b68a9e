"""A listener like Apache Kafka's, up to the login and the metadata of the brokers.

It responds to ApiVersions, SaslHandshake, SaslAuthenticate and Metadata. Like Kafka, it hangs up on
anything else before the login, and on a first message that is no request (TLS to a plain port).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import socket
import ssl
import struct
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka.protocol.metadata import (
    ApiVersionsRequest,
    ApiVersionsResponse,
    MetadataRequest,
    MetadataResponse,
)
from kafka.protocol.sasl import (
    SaslAuthenticateRequest,
    SaslAuthenticateResponse,
    SaslHandshakeRequest,
    SaslHandshakeResponse,
)

REQUESTS = {
    each.API_KEY: each
    for each in (ApiVersionsRequest, MetadataRequest, SaslHandshakeRequest, SaslAuthenticateRequest)
}
VERSIONS = {3: (0, 13), 17: (0, 1), 18: (0, 4), 36: (0, 2)}
MOST = 104_857_600


class HangUp(Exception):
    """The connection is closed without a response."""


@dataclass
class Listener:
    """One listener on 127.0.0.1. `users` maps names to passwords; without users no login is needed.

    `advertised` is the address that clients are told to connect to, by default its own.
    """

    users: dict[str, str] = field(default_factory=dict)
    mechanisms: tuple[str, ...] = ("SCRAM-SHA-512",)
    context: ssl.SSLContext | None = None
    advertised: tuple[str, int] | None = None
    versions: dict[int, tuple[int, int]] = field(default_factory=lambda: dict(VERSIONS))

    def __enter__(self) -> Listener:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                if self.context:
                    sock = self.context.wrap_socket(sock, server_side=True)
                _Session(self, sock).run()
            except (HangUp, OSError):
                pass
            finally:
                sock.close()


class _Session:
    def __init__(self, listener: Listener, sock: socket.socket) -> None:
        self._listener, self._sock = listener, sock
        self._logged_in = not listener.users
        self._mechanism = ""
        self._scram: _Scram | None = None

    def run(self) -> None:
        while True:
            (size,) = struct.unpack(">i", self._take(4))
            if not 0 < size <= MOST:
                raise HangUp
            data = self._take(size)
            key, version, correlation_id = struct.unpack(">hhi", data[:8])
            request = REQUESTS[key].decode(data, version=version, header=True)
            answer = self._answer(request)
            answer.API_VERSION = version
            answer.with_header(correlation_id=correlation_id)
            self._sock.sendall(answer.encode(header=True, framed=True))

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            came = self._sock.recv(size - len(data))
            if not came:
                raise HangUp
            data += came
        return data

    def _answer(self, request: Any) -> Any:
        match request:
            case ApiVersionsRequest():
                each = ApiVersionsResponse.ApiVersion
                keys = [
                    each(api_key=key, min_version=low, max_version=high)
                    for key, (low, high) in self._listener.versions.items()
                ]
                return ApiVersionsResponse(error_code=0, api_keys=keys)
            case SaslHandshakeRequest():
                if not self._listener.users:
                    return SaslHandshakeResponse(error_code=34, mechanisms=[])
                known = request.mechanism in self._listener.mechanisms
                self._mechanism = request.mechanism if known else ""
                return SaslHandshakeResponse(
                    error_code=0 if known else 33, mechanisms=list(self._listener.mechanisms)
                )
            case SaslAuthenticateRequest() if self._mechanism:
                return self._log_in(request.auth_bytes)
            case MetadataRequest() if self._logged_in:
                host, port = self._listener.advertised or ("127.0.0.1", self._listener.port)
                broker = MetadataResponse.MetadataResponseBroker(node_id=1, host=host, port=port)
                return MetadataResponse(brokers=[broker], controller_id=1, topics=[])
        raise HangUp

    def _log_in(self, token: bytes) -> SaslAuthenticateResponse:
        if self._mechanism == "PLAIN":
            _, user, password = token.decode().split("\0")
            if self._listener.users.get(user) != password:
                return _refused("Authentication failed: Invalid username or password")
            self._logged_in = True
            return SaslAuthenticateResponse(error_code=0, auth_bytes=b"")
        self._scram = self._scram or _Scram(self._mechanism, self._listener.users)
        try:
            said = self._scram.step(token)
        except KeyError:
            return _refused(
                "Authentication failed during authentication due to invalid credentials "
                f"with SASL mechanism {self._mechanism}"
            )
        self._logged_in = said.startswith(b"v=")
        return SaslAuthenticateResponse(error_code=0, auth_bytes=said)


def _refused(why: str) -> SaslAuthenticateResponse:
    return SaslAuthenticateResponse(error_code=58, error_message=why, auth_bytes=b"")


class _Scram:
    """The server's side of RFC 5802; a failed login raises KeyError."""

    def __init__(self, mechanism: str, users: dict[str, str]) -> None:
        self._hash = mechanism.removeprefix("SCRAM-").replace("-", "").lower()
        self._users = users
        self._first = b""

    def step(self, token: bytes) -> bytes:
        if not self._first:
            self._first = token.removeprefix(b"n,,")
            named = dict(part.split("=", 1) for part in self._first.decode().split(","))
            self._password = self._users[named["n"]]
            self._challenge = f"r={named['r']}server,s={base64.b64encode(b'salt').decode()},i=4096"
            return self._challenge.encode()
        without, _, proof = token.partition(b",p=")
        salted = hashlib.pbkdf2_hmac(self._hash, self._password.encode(), b"salt", 4096)
        said = b",".join((self._first, self._challenge.encode(), without))
        client = self._sign(salted, b"Client Key")
        signature = self._sign(hashlib.new(self._hash, client).digest(), said)
        if bytes(a ^ b for a, b in zip(client, signature, strict=True)) != base64.b64decode(proof):
            raise KeyError("proof")
        return b"v=" + base64.b64encode(self._sign(self._sign(salted, b"Server Key"), said))

    def _sign(self, key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, self._hash).digest()


class Authority:
    """A certificate authority made by openssl for a test, and the certificates that it signs."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.file = folder / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA", "-days", "2",
        )  # fmt: skip

    def context(
        self, name: str = "127.0.0.1", *, days: int = 1, clients: bool = False
    ) -> ssl.SSLContext:
        """Return the TLS context of a server; `clients` requires certificates of clients."""
        kind = "IP" if _is_address(name) else "DNS"
        (self._folder / "names").write_text(f"subjectAltName={kind}:{name}")
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=broker",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "server.pem", "-days", str(days), "-extfile", "names",
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / "server.pem", self._folder / "server.key")
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file)
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

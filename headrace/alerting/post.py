"""One POST to a receiver: only to hosts that are allowed, and never for longer than a limit.

The address that a name is looked up as is checked and then connected to, so a name that changes
meanwhile (DNS rebinding) reaches nothing else. Redirects are not followed, proxies not used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import httpx

from headrace.errors import AlertError, SettingError, shorten
from headrace.settings import PREFIX

SETTING = f"{PREFIX}ALERT_HOSTS"
TIMEOUT_S = 10.0
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")

# It logs addresses, and those of Slack are secrets.
logging.getLogger("httpx").setLevel(logging.WARNING)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Answer:
    """What a receiver answered.

    Attributes:
        status: of HTTP.
        retry_after_s: seconds that it asks to wait for; 0 if it does not ask.
    """

    status: int
    retry_after_s: float = 0.0


class Hosts:
    """The hosts that may be contacted: names, addresses and networks, separated by commas.

    A listed name may only mean public addresses, or listed ones.

    Raises:
        SettingError: an entry is none of these.
    """

    def __init__(self, listed: str) -> None:
        self._names: set[str] = set()
        self._networks: list[Network] = []
        for entry in filter(None, (each.strip().lower() for each in listed.split(","))):
            try:
                self._networks.append(ipaddress.ip_network(entry))
            except ValueError:
                if not _NAME.fullmatch(entry):
                    raise SettingError(
                        f"{SETTING}: must be names, addresses and networks, such as "
                        f"hooks.slack.com,10.0.0.0/8, got {shorten(entry)}"
                    ) from None
                self._names.add(entry)

    def check(self, url: httpx.URL) -> None:
        """Check the host of an address as it is written, without looking it up.

        Raises:
            SettingError: it is not listed.
        """
        literal = _address(url.host)
        if not (self._lists(literal) if literal else url.host.rstrip(".") in self._names):
            raise SettingError(f"{SETTING}: must list {url.host} for it to be contacted")

    def look_up(self, url: httpx.URL) -> str:
        """Return the address to connect to.

        Raises:
            AlertError: the host is not listed, has no address, or none that may be contacted.
        """
        try:
            self.check(url)
            found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        except SettingError as error:
            raise AlertError(str(error)) from None
        except OSError:
            raise AlertError(f"{url.host} has no address") from None
        addresses = [_address(str(entry[4][0])) for entry in found]
        return self._first_allowed(url, filter(None, addresses))

    def _first_allowed(self, url: httpx.URL, addresses: Iterable[Address]) -> str:
        for address in addresses:
            if self._lists(address) or (_is_public(address) and url.scheme == "https"):
                return str(address)
        raise AlertError(
            f"{url.host} may not be contacted: it means a private address that is not in "
            f"{SETTING}, or has no https"
        )

    def _lists(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def post(url: httpx.URL, body: bytes, headers: Mapping[str, str], hosts: Hosts) -> Answer:
    """Send one request, within TIMEOUT_S after the host is looked up.

    Raises:
        AlertError: the host may not be contacted or does not answer; the text names it, and neither
            the path nor what was sent.
    """
    address = hosts.look_up(url)
    try:
        return asyncio.run(_post(url, address, body, headers))
    except TimeoutError:
        raise AlertError(f"{url.host} did not answer within {TIMEOUT_S:.0f} s") from None
    except (httpx.HTTPError, OSError) as error:
        raise AlertError(f"{url.host} cannot be reached: {type(error).__name__}") from None


async def _post(url: httpx.URL, address: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    async with (
        asyncio.timeout(TIMEOUT_S),
        httpx.AsyncClient(verify=_trust(), trust_env=False, timeout=TIMEOUT_S) as client,
        client.stream(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "Host": url.netloc.decode(), "User-Agent": "headrace"},
            extensions={"sni_hostname": url.host},
        ) as response,
    ):
        return Answer(response.status_code, _seconds(response.headers.get("retry-after", "")))


@cache
def _trust() -> ssl.SSLContext:
    """The authorities of certifi, those of this machine, and those of SSL_CERT_FILE."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast

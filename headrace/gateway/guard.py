"""Protection against requests that web pages of other sites make through a visitor's browser.

Such a page can send requests to addresses that only the visitor reaches. The browser says which
site they come from (Origin) and which name it looked up (Host), which reveals cross-site requests
and DNS rebinding: a site that points its own name at this gateway.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.types import ASGIApp, Receive, Scope, Send

from headrace.errors import SettingError, shorten
from headrace.gateway.wire import HttpError
from headrace.settings import PREFIX, Settings

SETTING = f"{PREFIX}ALLOWED_HOSTS"
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+?)\.?)(?::[0-9]{1,5})?")


class Guard:
    """Middleware that refuses requests for names of other hosts and from pages of other sites.

    Raises:
        SettingError: `allowed_hosts` contains something other than names of hosts.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._names = {"localhost", settings.host.lower(), *allowed_hosts(settings)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await refusal.response()(scope, receive, send)

    def _refusal(self, scope: Scope) -> HttpError | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        if not self._is_ours(host):
            return HttpError(
                421, "host",
                f"Host: must be an IP address, localhost or a name of {SETTING}, "
                f"got {shorten(host)}",
            )  # fmt: skip
        own = (f"http://{host}", f"https://{host}")  # TLS ends at a proxy before us
        for name, value in scope["headers"]:
            if name == b"origin" and (origin := value.decode("latin-1").lower()) not in own:
                return HttpError(
                    403, "origin",
                    f"Origin: must be {own[0]} or absent, got {shorten(origin)}: pages of other "
                    "sites may not ask this gateway, their servers may",
                )  # fmt: skip
        return None

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1] or found[2]
        return name in self._names or _is_address(name)


def allowed_hosts(settings: Settings) -> list[str]:
    """Return the names in the setting `allowed_hosts`, in lower case."""
    names = [name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()]
    for name in names:
        found = _HOST.fullmatch(name)
        if found is None or found[2] != name:
            raise SettingError(
                f"{SETTING}: must be names such as gateway,headrace.example.org, without scheme "
                f"and port, got {shorten(name)}"
            )
    return names


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

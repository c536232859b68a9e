"""Who is told of alerts: the tables ``alerts`` of ``headrace.toml``.

    [alerts.oncall]
    kind = "pagerduty"
    secret_env = "PAGERDUTY_KEY"
    severities = ["critical"]

Secrets are values of environment variables, of which the file holds the names. No message of an
error quotes a value of `url`, `url_env` or `secret_env`: somebody may have put the secret there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import msgspec
from msgspec import Meta

from headrace.errors import SettingError
from headrace.settings import PREFIX
from headrace.toml import converted, known, read_table

Severity = Literal["warning", "critical"]
PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
# As Standard Webhooks 1.0.0 has it.
SECRET, SECRET_BYTES = "whsec_", range(24, 65)
_SECRETS = ("url", "url_env", "secret_env")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Receiver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver of alerts.

    Attributes:
        kind: the format and the way: a Slack channel, a PagerDuty service, any webhook (in
            Alertmanager's format), or an Alertmanager.
        url: address of a webhook or an Alertmanager; PagerDuty's own is known.
        url_env: name of the environment variable that holds the address; Slack's is a secret.
        secret_env: name of the environment variable with PagerDuty's routing key, the key that a
            webhook is signed with, or the bearer token of an Alertmanager.
        models: names of the models whose alerts it is told; none: all.
        severities: which alerts it is told.
        repeat_s: after how many seconds it is told again of what still fires; an Alertmanager is
            told every minute, and repeats by itself.
    """

    kind: Literal["slack", "pagerduty", "webhook", "alertmanager"]
    url: str = ""
    url_env: str = ""
    secret_env: str = ""
    models: tuple[str, ...] | None = None
    severities: tuple[Severity, ...] = ("warning", "critical")
    repeat_s: Annotated[float, Meta(ge=60)] = 14_400

    def wants(self, model: str, severity: str) -> bool:
        """Whether it is told of this alert."""
        return severity in self.severities and (self.models is None or model in self.models)


@dataclass(frozen=True)
class Target:
    """Where a receiver is reached.

    Attributes:
        url: its address, which may be a secret.
        secret: its routing key, signing key or token; empty where it has none.
    """

    url: httpx.URL = field(repr=False)
    secret: str = field(repr=False)


def read_receivers(path: Path) -> dict[str, Receiver]:
    """Return the receivers of the file by name; none where there is no file.

    Raises:
        SettingError: the file cannot be read, or a key or value is not allowed.
    """
    receivers = {}
    for name, given in read_table(path, "alerts").items():
        where = f"{path.name}: alerts.{name}"
        if not isinstance(given, dict):
            raise SettingError(f"{where}: must be a table")
        known(where, given, Receiver.__struct_fields__)
        _check_texts(where, given)
        receivers[name] = converted(given, Receiver, where)
        _check(where, receivers[name])
    return receivers


def target(name: str, receiver: Receiver, environ: Mapping[str, str]) -> Target:
    """Return where a receiver is reached, with the secrets that the environment holds.

    Raises:
        SettingError: a variable is not set, or holds no address or key.
    """
    values = {}
    for key in ("url_env", "secret_env"):
        variable = getattr(receiver, key)
        values[key] = environ.get(variable, "").strip() if variable else ""
        if variable and not values[key]:
            raise SettingError(f"alerts.{name}.{key}: the variable that it names is not set")
    if (
        receiver.kind == "webhook"
        and values["secret_env"]
        and not signing_key(values["secret_env"])
    ):
        raise SettingError(
            f"alerts.{name}.secret_env: the variable that it names must hold {SECRET} and "
            f"{SECRET_BYTES[0]} to {SECRET_BYTES[-1]} bytes in base64"
        )
    address = values["url_env"] or receiver.url or PAGERDUTY
    key = "url_env" if receiver.url_env else "url"
    return Target(_address(f"alerts.{name}.{key}", address), values["secret_env"])


def signing_key(secret: str) -> bytes | None:
    """Return the bytes of a secret of Standard Webhooks; None if it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET), validate=True)
    except binascii.Error:
        return None
    return key if secret.startswith(SECRET) and len(key) in SECRET_BYTES else None


def _check_texts(where: str, given: Mapping[str, Any]) -> None:
    for key in _SECRETS:
        value = given.get(key, "")
        if not isinstance(value, str):
            raise SettingError(f"{where}.{key}: must be a text")
        if key != "url" and value and not _VARIABLE.fullmatch(value):
            raise SettingError(f"{where}.{key}: must be the name of an environment variable")
        if value.startswith(PREFIX):
            raise SettingError(f"{where}.{key}: must not begin with {PREFIX}, as settings do")


def _check(where: str, receiver: Receiver) -> None:
    kind = receiver.kind
    if kind == "slack" and (receiver.url or receiver.secret_env or not receiver.url_env):
        raise SettingError(f"{where}: slack has url_env, as its address is a secret, and no other")
    if kind == "pagerduty" and not receiver.secret_env:
        raise SettingError(f"{where}: pagerduty needs secret_env, for its routing key")
    given = bool(receiver.url) + bool(receiver.url_env)
    if given > 1 or (kind != "pagerduty" and not given):
        raise SettingError(f"{where}: {kind} needs url or url_env, one of them")
    if receiver.url:
        _address(f"{where}.url", receiver.url)


def _address(where: str, text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise SettingError(f"{where}: must be an address http(s)://… without user and password")
    return url

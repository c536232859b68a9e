"""The owner's key: a request that has it may change policies, and which version serves.

It is made at the first start and kept in the home, readable by its user only. Where several
gateways must know the same key, it comes from the setting `owner_key`. The reviewers' key follows
from it, and not the other way round.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field

from headrace.errors import SettingError
from headrace.files import write_once
from headrace.settings import PREFIX, Settings

FILE = "owner-key"
SETTING = f"{PREFIX}OWNER_KEY"


@dataclass(frozen=True)
class OwnerKey:
    """The key, and where it can be found: a path or a setting."""

    value: str = field(repr=False)
    place: str

    def is_in(self, authorization: str) -> bool:
        """Whether the value of an ``Authorization`` header holds the key; takes constant time."""
        scheme, _, sent = authorization.partition(" ")
        same = hmac.compare_digest(sent.strip().encode("latin-1"), self.value.encode())
        return scheme.lower() == "bearer" and same


def owner_key(settings: Settings) -> OwnerKey:
    """Return the key from the setting, or else from the home, made there on first use (mode 0600).

    Raises:
        SettingError: the key is too short, or its file can be read by others or not at all.
    """
    if settings.owner_key:
        return OwnerKey(_checked(settings.owner_key, SETTING), SETTING)
    path = settings.home.resolve() / FILE
    try:
        if not path.exists():
            write_once(path, secrets.token_urlsafe(32) + "\n")
        mode = path.stat().st_mode
        value = path.read_text().strip()
    except OSError as error:
        raise SettingError(f"the owner's key cannot be kept: {error}") from None
    if mode & 0o077:
        raise SettingError(f"{path} must be readable by its user only: chmod 600 {path}")
    return OwnerKey(_checked(value, str(path)), str(path))


def reviewer_key(owner: OwnerKey) -> OwnerKey:
    """Return the key of reviewers: whoever has it may see what is to be reviewed, and label it.

    It is an HMAC of the owner's key, so it tells nothing about that one, and changes with it.
    """
    made = hmac.digest(owner.value.encode(), b"headrace review", "sha256").hex()[:32]
    return OwnerKey(made, "what `headrace review` prints")


def _checked(value: str, place: str) -> str:
    if not re.fullmatch(r"[!-~]{16,}", value):
        raise SettingError(f"{place}: must hold 16 or more letters, digits or signs, in ASCII")
    return value

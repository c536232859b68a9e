"""The owner's key: who sends it may change which version serves, and the policies.

It is made at the first start and kept in the home for its user, or comes from the setting
`owner_key`, where several gateways have to know the same one.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from headrace.errors import SettingError
from headrace.settings import PREFIX, Settings

FILE = "owner-key"
SETTING = f"{PREFIX}OWNER_KEY"


@dataclass(frozen=True)
class OwnerKey:
    """The key, and where its owner finds it."""

    value: str = field(repr=False)
    place: str

    def is_in(self, authorization: str) -> bool:
        """Whether the value of a header ``Authorization`` has it, compared in constant time."""
        scheme, _, sent = authorization.partition(" ")
        same = hmac.compare_digest(sent.strip().encode("latin-1"), self.value.encode())
        return scheme.lower() == "bearer" and same


def owner_key(settings: Settings) -> OwnerKey:
    """Return the key of the setting, or else that of the home, made on first use (mode 0600).

    Raises:
        SettingError: the key is too short, or its file can be read by others or not at all.
    """
    if settings.owner_key:
        return OwnerKey(_checked(settings.owner_key, SETTING), SETTING)
    path = settings.home.resolve() / FILE
    try:
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode
        value = path.read_text().strip()
    except OSError as error:
        raise SettingError(f"the owner's key cannot be kept: {error}") from None
    if mode & 0o077:
        raise SettingError(f"{path} must be its user's alone: chmod 600 {path}")
    return OwnerKey(_checked(value, str(path)), str(path))


def _checked(value: str, place: str) -> str:
    if not re.fullmatch(r"[!-~]{16,}", value):
        raise SettingError(f"{place}: must hold 16 or more letters, digits or signs, in ASCII")
    return value


def _make(path: Path) -> None:
    """Let the file appear whole; of several processes that make it, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{FILE}-") as draft:
        draft.write(secrets.token_urlsafe(32) + "\n")
        draft.flush()
        os.fsync(draft.fileno())
        with suppress(FileExistsError):
            os.link(draft.name, path)

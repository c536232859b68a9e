"""What a command says when it fails: one line that ends with the next step."""

from __future__ import annotations

import errno
import sys

from headrace import extras
from headrace.errors import HeadraceError, one_line
from headrace.settings import PREFIX

_NEXT_STEPS = {
    errno.EACCES: f"let this user read and write it, or set {PREFIX}HOME to another folder",
    errno.EROFS: f"set {PREFIX}HOME to a folder that can be written",
    errno.ENOSPC: f"free some disk space, or set {PREFIX}HOME to a folder on another disk",
}
_DOCTOR = "`headrace doctor` looks for the cause"


def explain(error: Exception) -> str | None:
    """Return what to tell the user about an error; None for a bug of Headrace."""
    if isinstance(error, HeadraceError):
        return one_line(error)
    if isinstance(error, ModuleNotFoundError):
        missing = extras.missing(error)
        return one_line(missing) if missing else None
    if isinstance(error, OSError):
        says = f"{error.filename}: {error.strerror}" if error.filename else one_line(error)
        return f"{says}; {_NEXT_STEPS.get(error.errno or 0, _DOCTOR)}"
    psycopg = sys.modules.get("psycopg")  # an error of it says that it is imported
    if psycopg and isinstance(error, psycopg.Error):
        return f"the database says: {one_line(error)}; {_DOCTOR}"
    return None

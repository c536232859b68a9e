"""The folder of a published version: where it may lie."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from headrace.errors import ContractError, ModelError, one_line


def artifact_path(uri: str, root: Path) -> Path:
    """Return the folder of an artifact: a path or a ``file://`` address that leads into `root`.

    Raises:
        ModelError: another kind of address, one that leads elsewhere, there is no such folder, or
            it holds what is no file of its own: a link may lead anywhere, and a pipe never ends.
    """
    path = local_path(uri)
    if path is None:
        raise ModelError(f"artifact_uri: must be a path or a file:// address, got {uri!r}")
    if not is_inside(path, root):
        raise ModelError(
            f"artifact_uri: must be inside {root.resolve()}, the folder of published versions "
            f"(HEADRACE_ARTIFACTS), got {uri!r}"
        )
    try:
        if not path.is_dir():
            raise ModelError(f"artifact_uri: there is no folder {uri!r}")
        for entry in path.iterdir():
            mode = entry.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise ModelError(f"artifact_uri: {entry} must be a file, not a link or a pipe")
    except OSError as error:
        raise ModelError(f"artifact_uri: {path} cannot be read: {one_line(error)}") from None
    return path


def check_address(uri: str | None, root: Path) -> None:
    """Refuse the address of an artifact on this machine that would not be loaded.

    Raises:
        ContractError: it leads out of the folder `root`.
    """
    path = local_path(uri) if uri else None
    if path is not None and not is_inside(path, root):
        raise ContractError("artifact_uri", f"inside the folder {root.resolve()}", uri)


def local_path(uri: str) -> Path | None:
    """The path that an address names on this machine, or None where it names something else."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # no address at all
        return None
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path)) if parts.scheme else Path(uri)


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path leads into a folder, all links followed."""
    try:
        return root.resolve() in path.resolve().parents
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a circle of links
        return False

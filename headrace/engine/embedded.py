"""The embedded PostgreSQL: one server in a folder of ours, on TCP of 127.0.0.1.

Processes that use it hold a shared lock on one file; the last one to let go stops the server. A
lock dies with its process, so a `kill -9` leaves nothing to clean up by hand: the next start
recovers from the write-ahead log.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg
from psycopg.conninfo import make_conninfo

from headrace.engine.programs import give_to_server, run_as_server
from headrace.errors import EngineError, one_line
from headrace.files import write_whole
from headrace.settings import Settings

USER = "headrace"
DATABASE = "headrace"
START_TIMEOUT_S = 60
LEAVING_TIMEOUT_S = 15
START_TRIES = 3
LOOK_EVERY_S = 5

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
# Deployments release their locks sooner than this, so a reader is never the one that is cancelled.
deadlock_timeout = '10s'
# The backend of a killed client gives up its statement and its locks.
client_connection_check_interval = '2s'
"""


class EmbeddedPostgres:
    """One PostgreSQL server under `folder` (made on first use)."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder.resolve()
        self.wanted_port = port
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self._lock: IO[str] | None = None
        self._look_at, self._idle = 0.0, False
        # Shown in the titles of its processes.
        self._name = f"headrace-{hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]}"

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
        """The port of the running server, or the one that it had; 0 if it never ran."""
        facts = _read(self.data / "postmaster.pid").splitlines() if self.pid() else []
        text = facts[3] if len(facts) > 3 else _read(self.folder / "port")
        return int(text) if text.strip().isdigit() else 0

    def password(self, role: str) -> str:
        """Return the generated password of `role`, making it on first use (mode 0600).

        Raises:
            EngineError: the owner's password is lost, and the database is not.
        """
        path = self.folder / f"password-{role}"
        with self._locked("passwords"):
            if not _read(path):
                if role == USER and self._is_initialised():
                    raise EngineError(f"{path} is gone or empty: put it back from a backup")
                write_whole(path, secrets.token_urlsafe(24))
            return path.read_text()

    @contextmanager
    def running(self) -> Iterator[EmbeddedPostgres]:
        """Run the server inside the `with` block; the last user to leave stops it."""
        self.acquire()
        try:
            yield self
        finally:
            self.release()

    def acquire(self) -> None:
        """Start the server unless it runs, and keep it running until `release`.

        Raises:
            EngineError: it does not start; the text quotes the end of its log.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "users.lock").open("w")
        with self._locked("start"):
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            try:
                self._initialise()
                self._have_it_run()
            except BaseException:
                self._lock.close()
                raise

    def revive(self) -> bool:
        """Start the server again if it died; true when that was needed."""
        with self._locked("start"):
            if self.pid() is not None:
                if not self._hangs():
                    return False
                self.kill()
            self._have_it_run()
            return True

    def release(self) -> None:
        """Release the server, and stop it when no other process uses it."""
        if self._lock is None:
            return
        with self._locked("start"):
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
            pid = int(_read(self.data / "postmaster.pid").split()[0])
            os.kill(pid, 0)
        except (ProcessLookupError, ValueError, IndexError):
            return None
        except PermissionError:
            pass
        return pid if _is_server(pid, self.data) else None

    def stop(self) -> None:
        """Stop the server and end its connections; do nothing when it is down.

        If it does not end within a minute it is killed, and recovers at its next start.
        """
        if self.pid() is not None:
            try:
                self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w")
            except EngineError:
                self.kill()

    def kill(self) -> None:
        """Kill the server as a power cut would (SIGKILL to all of it). For crash tests."""
        pid = self.pid()
        if pid is None:
            return
        for victim in [pid, *self.processes()]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self.folder / f"{name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _is_initialised(self) -> bool:
        return (self.data / "PG_VERSION").exists()

    def _initialise(self) -> None:
        """Make the data folder beside its place, and move it there once it is complete."""
        for left in reversed(range(START_TRIES)):
            if self._is_initialised():
                return
            for half in (self.data, *self.folder.glob("data.new-*")):
                shutil.rmtree(half, ignore_errors=True)
            try:
                self._make_data()
            except EngineError:
                if not left:
                    raise

    def _make_data(self) -> None:
        # A new name each time: an initdb of a killed process may still be writing to its own.
        fresh = Path(tempfile.mkdtemp(prefix="data.new-", dir=self.folder))
        give_to_server(fresh)
        secret = self.folder / "initdb-password"
        write_whole(secret, self.password(USER))
        give_to_server(secret)
        try:
            self._run(
                "initdb", "-D", str(fresh), "-U", USER, f"--pwfile={secret}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions",
            )  # fmt: skip
        finally:
            secret.unlink(missing_ok=True)
        with (fresh / "postgresql.conf").open("a") as file:
            file.write("include_if_exists = 'headrace.conf'\n")
        fresh.rename(self.data)

    def _have_it_run(self) -> None:
        """Return once the server accepts connections and has our database.

        A killed process may have left it in any state: starting, recovering, without the database.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            if self.pid() is None:
                self._start()
            try:
                self._have_database()
            except psycopg.OperationalError as error:
                if "authentication failed" in str(error) or time.monotonic() > deadline:
                    raise EngineError(f"PostgreSQL refuses us: {one_line(error)}") from None
                if self._hangs():
                    self.kill()
                time.sleep(0.1)
            else:
                return

    def _have_database(self) -> None:
        with psycopg.connect(
            self.dsn, dbname="postgres", autocommit=True, connect_timeout=10
        ) as connection:
            exists = connection.execute(
                "select 1 from pg_database where datname = %s", [DATABASE]
            ).fetchone()
            if not exists:
                connection.execute(f"create database {DATABASE}")

    def _start(self) -> None:
        self.log.touch(mode=0o600)
        give_to_server(self.log)
        began = time.monotonic()
        for attempt in itertools.count(1):
            port = self._choose_port()
            settings = self.data / "headrace.conf"
            write_whole(settings, f"{CONFIGURATION}port = {port}\ncluster_name = '{self._name}'\n")
            give_to_server(settings)
            write_whole(self.folder / "port", str(port))
            try:
                self._run(
                    "pg_ctl", "start", "-D", str(self.data), "-l", str(self.log),
                    "-w", "-t", str(START_TIMEOUT_S),
                )  # fmt: skip
            except EngineError:
                if self.pid() is not None:
                    return  # another process had started it
                # The remains of a killed server need a moment to disappear, or stay for ever.
                self._end_what_is_left()
                tail = self._log_tail()
                leaving = any(word in tail for word in ("shared memory", "postmaster.pid"))
                patience = LEAVING_TIMEOUT_S if leaving else 0
                if attempt >= START_TRIES and time.monotonic() > began + patience:
                    raise EngineError(
                        f"PostgreSQL does not start; its log ends with: {tail}"
                    ) from None
                time.sleep(0.5)
            else:
                return

    def processes(self) -> dict[int, str]:
        """Return the processes on our data by id, also those left by a killed server.

        The value is what each one's title says it does. Without /proc there are none.
        """
        title = f"postgres: {self._name}: ".encode()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (process / "cmdline").read_bytes()
                if command.startswith(title):
                    found[int(process.name)] = command[len(title) :].rstrip(b"\0 ").decode()
        return found

    def _hangs(self) -> bool:
        """Whether it neither works nor recovers, now and LOOK_EVERY_S before.

        PostgreSQL 18 stays in this state for ever once its recovering process was killed.
        """
        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + LOOK_EVERY_S
        does = self.processes().values()
        before = self._idle
        self._idle = bool(does) and not any(
            each.startswith(("startup", "walwriter")) for each in does
        )
        return before and self._idle

    def _end_what_is_left(self) -> None:
        """End what a killed server left: backends in a long query, and its pid file.

        Where no init collects dead processes, as in many containers, PostgreSQL believes a dead
        server alive.
        """
        for pid in (left := self.processes()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left and Path("/proc").exists() and self.pid() is None:
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _choose_port(self) -> int:
        if self.wanted_port:
            if not _is_free(self.wanted_port):
                raise EngineError(
                    f"port {self.wanted_port} is in use; set HEADRACE_POSTGRES_PORT to a free one"
                )
            return self.wanted_port
        kept = self.port
        if kept and _is_free(kept):
            return kept
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " | ".join(lines[-3:]) or "(its log is empty)"

    def _run(self, program: str, *arguments: str) -> None:
        code = run_as_server(program, *arguments, folder=self.folder)
        if code != 0:
            raise EngineError(f"{program} failed with code {code}; see {self.log}")


def embedded_postgres(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of these settings (running or not)."""
    return EmbeddedPostgres(settings.home / "postgres", settings.postgres_port)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _is_server(pid: int, data: Path) -> bool:
    """Whether this is our server, not an unrelated process that got its id after a crash."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return not Path("/proc").exists()
    return b"postgres" in command and os.fsencode(data) in command and state != "Z"


def _read(path: Path) -> str:
    """Return the text of a file; empty if there is none."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""

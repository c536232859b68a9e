"""The processes of one machine: started together, known by small files, stopped together."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from headrace.embedded import embedded_postgres
from headrace.errors import EngineError, SettingError, one_line
from headrace.files import write_whole
from headrace.settings import Settings

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0
# Between the end of a child and its next start; after a longer run it begins anew.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
# A gateway that has ended so often before it was ready will not be.
MOST_ENDS = 5
_AWAY = re.compile("connection|cannot reach the database|database system is", re.IGNORECASE)


class Child:
    """A `headrace COMMAND` of its own, its output in a log file of the home.

    Attributes:
        ends: how often it has ended by itself.
    """

    def __init__(self, settings: Settings, command: Sequence[str], **environment: str) -> None:
        self.name = command[0]
        self.log = settings.home / "logs" / f"{self.name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.ends = 0
        self._command = command
        self._environment = {**os.environ, "HEADRACE_HOME": str(settings.home), **environment}
        self._pause = FIRST_PAUSE_S
        self._again_at: float | None = None
        self._start()

    def _start(self) -> None:
        self._began = time.monotonic()
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace.cli", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                # Ctrl-C is for the parent, which stops its children in order.
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def check(self) -> None:
        """Raise EngineError if it has ended by itself; the text quotes the end of its log."""
        if self.process.poll() is not None:
            raise EngineError(self._ending())

    def _ending(self) -> str:
        code = self.process.returncode
        how = f"ended with code {code}"
        if code < 0:
            how = f"was ended by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", as it is when memory runs out"
        return f"the {self.name} {how}: {self.tail()}"

    def look_after(self, say: Callable[[str], None]) -> None:
        """Start it again if it has ended: after a pause that doubles while it keeps ending."""
        now = time.monotonic()
        if self.process.poll() is None:
            return
        if self._again_at is None:
            if now - self._began > LONGEST_PAUSE_S:
                self._pause = FIRST_PAUSE_S
            self.ends += 1
            say(f"{self._ending()}; starting it again in {self._pause:.0f} s")
            self._again_at = now + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        elif now >= self._again_at:
            self._again_at = None
            self._start()

    def tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "(it said nothing)"

    def stop(self) -> None:
        """Ask it to finish, and kill it when it does not within 40 s."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def children(
    settings: Settings, commands: Mapping[str, Mapping[str, str]]
) -> Iterator[list[Child]]:
    """Run commands, each with its extra environment, until the block ends, however it does."""
    started: list[Child] = []
    try:
        for command, environment in commands.items():
            started.append(Child(settings, command.split(), **environment))
        yield started
    finally:
        for child in started:
            if child.process.poll() is None:
                child.process.terminate()
        for child in started:
            child.stop()


class Family:
    """The parts of `headrace up`: what dies is started again, and `say` is told of it in a line."""

    def __init__(
        self, settings: Settings, children: Sequence[Child], say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._server = embedded_postgres(settings)
        self._children = children
        self._say = say
        self._said = ""

    def look_after(self) -> None:
        """Look at all of them once; to be called about every second."""
        if not self._settings.dsn:
            try:
                if self._server.revive():
                    self._say("PostgreSQL had died and was started again")
            except EngineError as error:
                self._say_once(f"{error}; trying again")
        for child in self._children:
            child.look_after(self._say)

    def _say_once(self, line: str) -> None:
        if self._said != line:
            self._said = line
            self._say(line)

    def insist(self, step: Callable[[], None]) -> None:
        """Take a step of the start; again when the database went away under it.

        Raises:
            EngineError: it failed for another reason, or the database stayed away for two minutes.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            server = self._server.pid()
            try:
                step()
            except (psycopg.Error, EngineError) as error:
                went = self._server.pid() != server or _AWAY.search(str(error))
                if not went or time.monotonic() > deadline:
                    raise EngineError(one_line(error)) from None
                self._say_once(f"{one_line(error)}; trying again")
                time.sleep(FIRST_PAUSE_S)
                self.look_after()
            else:
                return

    def wait_until_ready(self, url: str, gateway: Child) -> None:
        """Return once the gateway at `url` answers.

        Raises:
            EngineError: it ended again and again, or was not ready within two minutes.
        """

        def meanwhile() -> None:
            if gateway.ends >= MOST_ENDS:
                gateway.check()
            self.look_after()

        wait_until_ready(url, gateway, meanwhile)


def wait_until_ready(url: str, gateway: Child, meanwhile: Callable[[], None] | None = None) -> None:
    """Return once the gateway at `url` answers; it may not end, unless `meanwhile` looks after it.

    Raises:
        EngineError: it ended, or was not ready within two minutes.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        (meanwhile or gateway.check)()
        try:
            if httpx.get(f"{url}/healthz", timeout=2).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise EngineError(f"the gateway at {url} is not ready; its log ends with: {gateway.tail()}")


def bind(settings: Settings) -> socket.socket:
    """Return a socket that is bound to the host and port of the settings.

    Raises:
        SettingError: the port is taken or the host is not ours.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listener.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise SettingError(
                f"HEADRACE_PORT: must be a free port, got {settings.port}, which is in use"
            ) from None
        raise SettingError(
            f"HEADRACE_HOST and HEADRACE_PORT: must be an address of this machine, "
            f"got {settings.host}:{settings.port} ({error})"
        ) from None
    return listener


def wait_for_port(settings: Settings, say: Callable[[str], None]) -> None:
    """Return once the gateway's port is free: that of an `up` that was killed finishes first.

    Raises:
        SettingError: somebody else has it, or the host is not ours.
    """
    deadline = time.monotonic() + STOP_TIMEOUT_S
    said = False
    while True:
        try:
            bind(settings).close()
            return
        except SettingError:
            alive = running(settings)
            if "gateway" not in alive or "up" in alive or time.monotonic() > deadline:
                raise
        if not said:
            say(f"waiting for the gateway of before to finish (pid {alive['gateway']['pid']})")
            said = True
        time.sleep(0.2)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def announced(settings: Settings, name: str, **facts: Any) -> Iterator[None]:
    """Keep a file that says this process runs, for `headrace status`."""
    path = settings.home / "run" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"pid": os.getpid(), **facts}), 0o644)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return what runs by name, with pid and facts; files of processes that died are ignored."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((settings.home / "run").glob("*.json")):
        try:
            facts = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # gone meanwhile, or of a writer that was killed
        if _alive(facts["pid"]):
            found[path.stem] = facts
    return found


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def end_with_parent() -> None:
    """Have the kernel end this child when its parent is killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)

"""The processes of one machine: started together, known by small files, stopped together."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from headrace.errors import EngineError
from headrace.settings import Settings

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0


class Child:
    """A `headrace COMMAND` of its own, its output in a log file of the home."""

    def __init__(self, settings: Settings, command: Sequence[str], **environment: str) -> None:
        self.name = command[0]
        self.log = settings.home / "logs" / f"{self.name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        home = {"HEADRACE_HOME": str(settings.home)}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace.cli", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **home, **environment},
                # Ctrl-C is for the parent, which stops its children in order.
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def check(self) -> None:
        """Raise EngineError if it has ended by itself; the text quotes the end of its log."""
        code = self.process.poll()
        if code is not None:
            raise EngineError(f"the {self.name} ended with code {code}: {self.tail()}")

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


def wait_until_ready(url: str, child: Child) -> None:
    """Return once the gateway at `url` answers.

    Raises:
        EngineError: it ended, or was not ready within two minutes.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        child.check()
        try:
            if httpx.get(f"{url}/healthz", timeout=2).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise EngineError(f"the gateway at {url} is not ready; see {child.log}")


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
    path.write_text(json.dumps({"pid": os.getpid(), **facts}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return what runs by name, with pid and facts; files of processes that died are ignored."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((settings.home / "run").glob("*.json")):
        facts = json.loads(path.read_text())
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


def _die_with_parent() -> None:
    """Have the kernel end this child when its parent is killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)

"""This machine: its ports, its signals, and the processes of Headrace that run on it."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.errors import SettingError
from headrace.files import write_whole
from headrace.settings import Settings

STOP_TIMEOUT_S = 30.0


def bind(settings: Settings) -> socket.socket:
    """Return a socket that is bound to the host and port of the settings.

    Raises:
        SettingError: the port is in use, or the host is no address of this machine.
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
    """Return once the gateway's port is free.

    The gateway of an `up` that was killed may still answer its last requests; it is waited for.

    Raises:
        SettingError: another program uses the port, or the host is no address of this machine.
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
            say(f"waiting for the previous gateway to end (pid {alive['gateway']['pid']})")
            said = True
        time.sleep(0.2)


def free_port() -> int:
    """Return a port of 127.0.0.1 that is not in use now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def announced(settings: Settings, name: str, **facts: Any) -> Iterator[None]:
    """Keep a file in the home while the block runs: the pid and `facts`, read by `running`."""
    path = settings.home / "run" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"pid": os.getpid(), **facts}), 0o644)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return pid and facts of each announced process that is alive, by its name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((settings.home / "run").glob("*.json")):
        try:
            facts = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # deleted just now, or left half written by a process that was killed
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


def stop_event() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def end_with_parent() -> None:
    """Have the kernel end this process when its parent dies (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)

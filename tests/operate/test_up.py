"""`headrace up`, killed at each step of its first start, and its parts, killed while it runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest

from headrace import machine
from headrace.engine import Engine
from headrace.engine.embedded import embedded_postgres
from headrace.machine import free_port, running
from headrace.operate import processes
from headrace.operate.processes import Child
from headrace.settings import Settings

PATIENCE_S = 240


class Up:
    """An `up` in a home, its output in a file."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self.output = home.parent / "up.log"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace.cli", "--home", str(home), "up"],
                env={**os.environ, "HEADRACE_PORT": str(port)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.01)

    def stores(self, request_id: str) -> None:
        """Wait until it answers and stores an event."""

        def stored() -> bool:
            event = {"model": "m", "request_id": request_id}
            try:
                sent = httpx.post(f"{self.url}/v1/inferences", json=event, timeout=60)
            except httpx.TransportError:
                return False
            return sent.status_code == 201

        self.wait_for(stored)

    def says(self, words: str) -> None:
        self.wait_for(lambda: words in self.output.read_text())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def up(home: Path, port: int) -> Iterator[Up]:
    started = Up(home, port)
    try:
        yield started
    finally:
        started.process.terminate()
        started.process.wait(60)


def pid_of(settings: Settings, name: str) -> int | None:
    pid: int | None = running(settings).get(name, {}).get("pid")
    return pid


def is_another(settings: Settings, name: str, before: int) -> bool:
    return pid_of(settings, name) not in (None, before)


def test_a_first_start_that_is_killed_anywhere_leaves_nothing_bricked_and_what_dies_comes_back(
    tmp_path: Path,
) -> None:
    home, port = tmp_path / "home", free_port()
    settings = Settings(home=home)
    server = embedded_postgres(settings)
    deploys = home / "dbt" / "logs" / "dbt.log"
    steps: list[tuple[Callable[[], object], bool]] = [
        (lambda: list(server.folder.glob("data.new-*")), False),
        (lambda: server.pid(), False),
        (lambda: server.pid(), True),
        (lambda: deploys.exists(), False),
    ]
    for reached, server_too in steps:
        begun = Up(home, port)
        begun.wait_for(reached)
        begun.kill()
        if server_too:
            server.kill()
    deploys.unlink()
    with up(home, port) as begun:
        begun.wait_for(lambda: server.pid())
        server.kill()
        begun.wait_for(lambda: deploys.exists())
        server.kill()
        begun.stores("first")
        begun.says("Ctrl-C stops all")

        for name, how in (("trainer", signal.SIGKILL), ("gateway", signal.SIGTERM)):
            begun.wait_for(partial(pid_of, settings, name))
            before = pid_of(settings, name)
            assert before is not None
            os.kill(before, how)
            begun.says(f"the {name} ")
            begun.wait_for(partial(is_another, settings, name, before))
        server.kill()
        begun.says("PostgreSQL had died and was started again")
        begun.stores("last")
        with psycopg.connect(server.dsn) as connection:
            stored = connection.execute("select request_id from events.inference order by 1")
            assert stored.fetchall() == [("first",), ("last",)]
    said = begun.output.read_text()
    assert "the trainer was killed by SIGKILL, as happens when memory runs out: " in said
    assert begun.process.returncode == 0
    assert server.pid() is None and running(settings) == {}


def test_a_port_that_somebody_has_ends_it_with_one_line(engine: Engine, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "headrace.cli", "--home", str(tmp_path), "up"],
            env={**os.environ, "HEADRACE_PORT": str(port), "HEADRACE_DSN": engine.dsn},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    wanted = f"headrace: HEADRACE_PORT: must be a free port, got {port}, which is in use\n"
    assert (done.returncode, done.stderr) == (1, wanted)


def test_an_up_waits_for_the_gateway_of_one_that_was_killed(tmp_path: Path) -> None:
    """It finishes what it was asked, and has the port meanwhile."""
    with socket.socket() as left:
        left.bind(("127.0.0.1", 0))
        left.listen()
        settings = Settings(home=tmp_path, port=left.getsockname()[1])
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "gateway.json").write_text(json.dumps({"pid": os.getpid()}))
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            left.close()

        machine.wait_for_port(settings, say)
    assert said == [f"waiting for the previous gateway to end (pid {os.getpid()})"]


def test_a_child_that_keeps_ending_is_started_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LONGEST_PAUSE_S", 4.0)
    said: list[str] = []
    child = Child(Settings(home=tmp_path), ["policy"])
    while child.ends < 4:
        child.look_after(said.append)
        time.sleep(0.01)
    child.stop()
    assert [line.rsplit("starting it again ", 1)[1] for line in said] == [
        "in 1 s", "in 2 s", "in 4 s", "in 4 s",
    ]  # fmt: skip
    assert all(line.startswith("the policy ended with code 2: ") for line in said)


def test_a_half_written_note_of_a_process_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "gateway.json").write_text('{"pid": 1')
    assert running(Settings(home=tmp_path)) == {}

"""The processes of one machine: started together, known by small files, stopped together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx
import psycopg

from headrace.engine.embedded import embedded_postgres
from headrace.errors import EngineError, one_line
from headrace.machine import end_with_parent
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

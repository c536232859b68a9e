"""The processes of `headrace up`: started together, watched, started again, stopped together."""

from __future__ import annotations

import operator
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
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from headrace.engine.embedded import embedded_postgres
from headrace.errors import EngineError, one_line
from headrace.machine import end_with_parent
from headrace.settings import Settings

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0
# Pauses before a child is started again: they double, up to the longest. After a run that was
# longer than that, they begin with the first again.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
# After so many ends before it was ready, the gateway is given up.
MOST_ENDS = 5
_AWAY = re.compile("connection|cannot reach the database|database system is", re.IGNORECASE)


class Child:
    """A process that runs `headrace COMMAND` and writes its output to a log file in the home.

    Attributes:
        ends: how often it has ended on its own.
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
                # Ctrl-C must reach the parent only, which stops its children in order.
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def check(self) -> None:
        """Raise EngineError if it has ended on its own; the text quotes the end of its log."""
        if self.process.poll() is not None:
            raise EngineError(self._ending())

    def _ending(self) -> str:
        code = self.process.returncode
        how = f"ended with code {code}"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", as happens when memory runs out"
        return f"the {self.name} {how}: {self.tail()}"

    def look_after(self, say: Callable[[str], None]) -> None:
        """Start it again if it has ended, after a pause that doubles while it keeps ending."""
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
        """Return the last line of its log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "(its log is empty)"

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not within 40 s."""
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
    """Run commands, each with its own extra environment variables, while the block runs."""
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
    """The processes of `headrace up`: one that ends is started again, with a line to `say`."""

    def __init__(
        self, settings: Settings, children: Sequence[Child], say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._server = embedded_postgres(settings)
        self._children = children
        self._say = say
        self._said = ""

    def look_after(self) -> None:
        """Start again what has ended; to be called about every second."""
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
        """Take a step of the start; take it again if the database went away meanwhile.

        Raises:
            EngineError: it failed for another reason, or the database stayed away for two minutes.
        """
        # By hand: tenacity's stop_after_delay counts the step itself, which may take longer.
        deadline: float | None = None
        while True:
            server = self._server.pid()
            try:
                step()
            except (psycopg.Error, EngineError) as error:
                went_away = self._server.pid() != server or _AWAY.search(str(error))
                deadline = deadline or time.monotonic() + START_TIMEOUT_S
                if not went_away or time.monotonic() > deadline:
                    raise EngineError(one_line(error)) from None
                self._say_once(f"{one_line(error)}; trying again")
                time.sleep(FIRST_PAUSE_S)
                self.look_after()
            else:
                return

    def wait_until_ready(self, url: str, gateway: Child) -> None:
        """Return once the gateway at `url` is ready.

        Raises:
            EngineError: it ended again and again, or was not ready within two minutes.
        """

        def meanwhile() -> None:
            if gateway.ends >= MOST_ENDS:
                gateway.check()
            self.look_after()

        wait_until_ready(url, gateway, meanwhile)


def wait_until_ready(url: str, gateway: Child, meanwhile: Callable[[], None] | None = None) -> None:
    """Return once the gateway at `url` is ready.

    Before each try, `meanwhile` is called; the default raises if the gateway has ended.

    Raises:
        EngineError: it ended, or was not ready within two minutes.
    """

    def is_ready() -> bool:
        (meanwhile or gateway.check)()
        return httpx.get(f"{url}/healthz", timeout=2).is_success

    retrying = Retrying(
        retry=retry_if_exception_type(httpx.TransportError) | retry_if_result(operator.not_),
        stop=stop_after_delay(START_TIMEOUT_S),
        wait=wait_fixed(0.1),
    )
    try:
        retrying(is_ready)
    except RetryError:
        line = f"the gateway at {url} is not ready; its log ends with: {gateway.tail()}"
        raise EngineError(line) from None

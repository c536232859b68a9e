"""A program of the user's: started without our secrets, heard to the end, killed when it must be.

It has a process group of its own, with all that it starts, and that group ends with it.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from headrace.errors import ModelError, one_line
from headrace.machine import end_with_parent

LAST_LINES, LAST_CHARACTERS = 8, 1_000
SECRET = ("HEADRACE_", "PGPASS")


class Program:
    """A program that runs; it is killed when nothing refers to it.

    Args:
        command: its words; no shell reads them.
        ends_with_thread: whether it ends when the thread that starts it does (on Linux).

    Raises:
        ModelError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], *, ends_with_thread: bool = False) -> None:
        try:
            self._process = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={name: text for name, text in os.environ.items() if not _is_secret(name)},
                start_new_session=True,
                preexec_fn=end_with_parent
                if ends_with_thread and sys.platform == "linux"
                else None,
            )
        except (OSError, ValueError) as error:
            raise ModelError(f"{command[0]} cannot be started: {one_line(error)}") from None
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._input = self._process.stdin
        self._output = io.BufferedReader(self._process.stdout)  # type: ignore[type-var]
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._printed: deque[str] = deque(maxlen=LAST_LINES)
        self._listener = _thread(_listen, self._process.stderr, self._said)
        _thread(_end_group, self._process)
        weakref.finalize(self, _end, self._process, self._input, self._output)

    @property
    def is_running(self) -> bool:
        # `poll` may say that it runs while another thread waits for it, though it has ended.
        if self._process.returncode is not None or not hasattr(os, "waitid"):
            return self._process.poll() is None
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self._process.pid, options) is None
        except ChildProcessError:
            return False

    def ask(self, line: bytes, timeout_s: float) -> bytes:
        """Write a line and return the next one that the program writes.

        Raises:
            ModelError: it ends or takes longer; it is killed then.
        """
        answer = b""
        with self._limit(timeout_s) as late, suppress(OSError):
            unsent = memoryview(line + b"\n")
            while unsent:
                unsent = unsent[self._input.write(unsent) or 0 :]
            answer = self._output.readline()
        if not answer.endswith(b"\n"):
            raise ModelError(self._ending(timeout_s if late.is_set() else None))
        return answer

    def finish(self, timeout_s: float, told: Callable[[bytes], bool]) -> None:
        """Wait for the end; `told` is given each line of its output and says if it understood.

        Raises:
            ModelError: it ends with another code than 0, or takes longer.
        """
        self._input.close()
        with self._limit(timeout_s) as late:
            for line in self._output:
                if not told(line):
                    self._printed.append(_readable(line))
            self._process.wait()
        self._output.close()
        if late.is_set() or self._process.returncode:
            raise ModelError(self._ending(timeout_s if late.is_set() else None))

    @contextmanager
    def _limit(self, timeout_s: float) -> Iterator[threading.Event]:
        """Kill the program if the block takes longer; the event says so."""
        late = threading.Event()

        def end() -> None:
            late.set()
            kill(self._process)

        timer = threading.Timer(timeout_s, end)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def _ending(self, timeout_s: float | None) -> str:
        """How it ended, and what it said last, on standard error or else on standard output."""
        how = "closed its output and was killed"
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1)
            how = f"ended with code {code}"
            if code < 0:
                how = f"was killed by {signal.Signals(-code).name}"
                how += ", as happens when memory runs out" if code == -signal.SIGKILL else ""
        if timeout_s is not None:
            how = f"took longer than {timeout_s:g} s and was killed"
        kill(self._process)
        self._listener.join(5)
        said = " | ".join(line for line in self._said or self._printed if line)[-LAST_CHARACTERS:]
        return f"{how}; it said last: {said}" if said else f"{how} and said nothing"


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a program with all that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes], *streams: IO[bytes]) -> None:
    kill(process)
    for stream in streams:
        stream.close()


def _is_secret(name: str) -> bool:
    return name.startswith(SECRET)


def _thread(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what a program leaves behind, which may hold its output open."""
    process.wait()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _listen(stream: IO[bytes], said: deque[str]) -> None:
    """Keep the last lines."""
    with io.BufferedReader(stream) as lines:  # type: ignore[type-var]
        while line := lines.readline(LAST_CHARACTERS):
            said.append(_readable(line))


def _readable(line: bytes) -> str:
    return line.decode(errors="replace").rstrip()

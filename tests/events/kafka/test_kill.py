"""Kill what reads Kafka with -9 at every step of a batch, and freeze the brokers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from benchmarks.broker import Broker
from headrace.engine import Engine
from headrace.errors import BusyError
from headrace.events.log import EventLog
from headrace.events.rows import ACCEPTED
from tests.support.brokers import environment
from tests.support.doomed_ingest import STEPS
from tests.support.ingesting import feedback, inference, ingesting, stored
from tests.support.waiting import until


@pytest.mark.parametrize("step", STEPS)
def test_each_event_is_there_once_after_kill_9(kafka_engine: Engine, step: str) -> None:
    settings = kafka_engine.settings
    variables = {
        **os.environ,
        "HEADRACE_DSN": settings.dsn,
        "HEADRACE_HOME": str(settings.home),
        **environment(settings),
    }
    sent: list[str] = []
    stopping = threading.Event()

    def send() -> None:
        with EventLog(kafka_engine) as log:
            while not stopping.is_set():
                name = f"r-{len(sent)}"
                log.append("inference", [inference(name), inference(name)])
                log.append("feedback", [feedback(name)])
                sent.append(name)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        doomed = subprocess.run(
            [sys.executable, "-m", "tests.support.doomed_ingest", step], env=variables, timeout=120
        )
        assert doomed.returncode == -signal.SIGKILL
    finally:
        stopping.set()
        sender.join()
    with ingesting(kafka_engine):
        until(lambda: len(stored(kafka_engine)) == 2 * len(sent))
    assert stored(kafka_engine) == sorted([*sent, *(f"f-{name}" for name in sent)])
    read = kafka_engine.rows("select sum(next_offset) as read from control.consumed")
    assert read == [{"read": 3 * len(sent)}]


def test_frozen_brokers_are_waited_for(engine: Engine) -> None:
    """On a Tansu of its own: the brokers that HEADRACE_TEST_KAFKA names are not ours to stop."""
    broker = Broker()
    broker.start()
    engine.settings = replace(
        engine.settings, kafka=broker.address, kafka_partitions=1, queue_rows=50
    )
    try:
        with EventLog(engine) as log, ingesting(engine):
            log.append("inference", [inference("first")])
            broker.signal(signal.SIGSTOP)
            waiting, number = [], 0
            with pytest.raises(BusyError):
                while True:
                    waiting.append(log.submit("inference", [inference(f"r-{number}")]))
                    number += 1
                    time.sleep(0.005)
            assert not any(future.done() for future in waiting)
            broker.signal(signal.SIGCONT)
            assert all(future.result(60) == [ACCEPTED] for future in waiting)
            until(lambda: len(stored(engine)) == 1 + len(waiting))
    finally:
        broker.stop()
    assert stored(engine) == sorted(["first", *(f"r-{at}" for at in range(len(waiting)))])

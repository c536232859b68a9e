"""Kill the database in the middle of ingestion: what was acknowledged is there, exactly once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest

from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres, embedded_postgres
from headrace.errors import EngineError
from headrace.settings import Settings
from tests.support import servers
from tests.support.gateways import running_gateway
from tests.support.once import once

KILLS = 3
WORKERS = 6


@pytest.fixture
def victim(shared: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server with everything deployed and the settings of a real one."""
    home = tmp_path / ".headrace"
    servers.copy(once(shared, "deployed", servers.deploy), home)
    with embedded_postgres(Settings(home=home)).running() as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("alter system reset all")
            connection.execute("select pg_reload_conf()")
        yield server


def post(client: httpx.Client, worker: int, number: int) -> list[tuple[str, str]]:
    """Send an inference and its feedback (every other time the other way round), until stored."""
    request_id, feedback_id = f"r-{worker}-{number}", f"f-{worker}-{number}"
    sent = [
        ("/v1/inferences", {
            "model": "m", "request_id": request_id, "prediction": "yes", "score": 0.7,
            "segment": f"s{worker % 2}", "features": {"n": number}, "latency_ms": 1 + number % 7,
        }),
        ("/v1/feedback", {"request_id": request_id, "feedback_id": feedback_id, "label": "yes"}),
    ]  # fmt: skip
    for path, event in sent if number % 2 else sent[::-1]:
        while client.post(path, json=event).status_code != 201:
            time.sleep(0.05)
    return [("inference", request_id), ("feedback", feedback_id)]


def test_acknowledged_events_survive_kill_9_of_the_database(victim: EmbeddedPostgres) -> None:
    settings = Settings(home=victim.folder.parent, port=0)
    engine = Engine(victim.dsn, settings)
    acknowledged: list[tuple[str, str]] = []
    stopping = threading.Event()

    def send(worker: int, url: str) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            number = 0
            while not stopping.is_set():
                acknowledged.extend(post(client, worker, number))
                number += 1

    with running_gateway(engine, settings) as url, ThreadPoolExecutor(WORKERS) as pool:
        workers = [pool.submit(send, worker, url) for worker in range(WORKERS)]
        for kill in range(KILLS):
            before = len(acknowledged)
            time.sleep(0.5 + 0.17 * kill)
            victim.kill()
            with pytest.raises(EngineError):
                engine.connect()
            known = set(acknowledged)
            victim.release()
            victim.acquire()  # recovers, on the same port
            assert known <= stored(engine)
            while len(acknowledged) <= before + 4 * WORKERS:
                assert not any(worker.done() for worker in workers)
                time.sleep(0.02)
        stopping.set()
        for worker in workers:
            worker.result()

    assert Counter(acknowledged) == Counter(dict.fromkeys(stored(engine), 1))
    n = len(acknowledged) // 2
    assert engine.rows("select count(*) as n from headrace.labeled_examples") == [{"n": n}]
    panes = "select sum(inferences) as n from panes.inference_panes where grain = '1 hour'"
    assert engine.rows(panes) == [{"n": n}]


def stored(engine: Engine) -> set[tuple[str, str]]:
    rows = engine.rows(
        "select 'inference' as topic, request_id as id from events.inference "
        "union all select 'feedback', feedback_id from events.feedback"
    )
    return {(row["topic"], row["id"]) for row in rows}

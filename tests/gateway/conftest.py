"""A gateway on a free port, in a thread of the test."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from headrace.control.owner import owner_key
from headrace.engine import Engine
from headrace.gateway.app import create_app
from headrace.machine import bind
from headrace.settings import Settings
from tests.gateway.published import Published, publish, wait_for

# Before torch is imported: its threads must not spin while others work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@contextlib.contextmanager
def running_gateway(engine: Engine, settings: Settings) -> Iterator[str]:
    """Serve `engine` and give the address; on leaving, stop cleanly."""
    listener = bind(settings)
    config = uvicorn.Config(create_app(engine, settings), log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def url(engine: Engine, settings: Settings) -> Iterator[str]:
    with running_gateway(engine, settings) as address:
        yield address


def owner(settings: Settings) -> dict[str, str]:
    """What whoever may change versions and policies sends."""
    return {"Authorization": f"Bearer {owner_key(settings).value}"}


@pytest.fixture
def http(url: str, settings: Settings) -> Iterator[httpx.Client]:
    """A client of the gateway's owner."""
    with httpx.Client(base_url=url, timeout=60, headers=owner(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture
def published(versions: Published, engine: Engine) -> Published:
    versions.copy_to(engine.settings.artifacts_path)
    return versions


@pytest.fixture
def serving(engine: Engine, settings: Settings, published: Published) -> Iterator[httpx.Client]:
    """A client of a gateway where version 1 serves."""
    publish(engine, published.event("1"))
    with (
        running_gateway(engine, settings) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        wait_for(client, "1")
        yield client

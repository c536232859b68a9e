"""Clients of a gateway that runs in a thread of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from headrace.engine import Engine
from headrace.settings import Settings
from tests.gateway.published import Published, publish, wait_for
from tests.support.gateways import owner, running_gateway

# Before torch is imported: its threads must not spin while others work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture
def url(engine: Engine, settings: Settings) -> Iterator[str]:
    with running_gateway(engine, settings) as address:
        yield address


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

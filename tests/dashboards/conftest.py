"""The database as Grafana may see it, empty or with a life of a model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from headrace.events.log import EventLog
from headrace.settings import Settings
from tests.dashboards.life import fill


@pytest.fixture
def embedded(engine: Engine, server: EmbeddedPostgres) -> Engine:
    """`engine` with settings that know the password of headrace_reader."""
    return Engine(engine.dsn, Settings(home=server.folder.parent))


@pytest.fixture
def reader(embedded: Engine) -> Engine:
    """The same database as role headrace_reader."""
    return Engine(embedded.reader_dsn(), embedded.settings)


@pytest.fixture
def filled(embedded: Engine) -> Iterator[Engine]:
    """A database with the life of a model: versions promoted and rejected, labels, drift."""
    with EventLog(embedded) as log:
        fill(embedded, log)
    yield embedded

"""One embedded PostgreSQL a session; each test gets a fresh copy of a migrated database."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from headrace.events.log import EventLog
from headrace.settings import Settings
from tests.support import risingwave_views as views
from tests.support import servers
from tests.support.once import once
from tests.support.standin import standing_in

pytest_plugins = [
    "tests.support.formula_database", "tests.support.kafka_engine", "tests.support.longest_first",
    "tests.support.risingwave_sql_database",
]  # fmt: skip

# Before torch is imported: threads that spin while they wait cost a busy machine most of its time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest) -> Path:
    """A folder that all processes of a run share, and that later runs find again."""
    assert request.config.cache
    return request.config.cache.mkdir("headrace")


@pytest.fixture(scope="session")
def server(shared: Path, request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    """A server of this process; everything is deployed in it if a test of the run needs that."""
    used = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    deployed = once(shared, "deployed", servers.deploy) if "template" in used else None
    with servers.running(deployed) as running:
        yield running


@pytest.fixture(scope="session")
def template(server: EmbeddedPostgres) -> EmbeddedPostgres:
    """The server, with everything deployed in its main database."""
    return server


@pytest.fixture(scope="session")
def risingwave_target(shared: Path) -> Path:
    """The target folder of dbt after all models were compiled for RisingWave."""
    return once(shared, "risingwave", views.compile_all)


@pytest.fixture(scope="session")
def risingwave_views(risingwave_target: Path) -> list[views.View]:
    """Every pane and mart as dbt compiles it for RisingWave, in an order they can be made in."""
    return views.compiled(risingwave_target)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch computes on one thread: small models are quicker so beside other processes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def engine(template: EmbeddedPostgres, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a database of its own with all tables and views and no events."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(template.dsn, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"create database {name} template headrace")
        # A copy has the rights of what is in it, not those of the database itself.
        admin.execute(f"revoke temporary on database {name} from public")
        dsn = make_conninfo(template.dsn, dbname=name)
        try:
            yield Engine(dsn, Settings(home=tmp_path / ".headrace", dsn=dsn))
        finally:
            admin.execute(f"drop database {name} with (force)")


@pytest.fixture
def log(engine: Engine) -> Iterator[EventLog]:
    with EventLog(engine) as opened:
        yield opened


@pytest.fixture
def standin(engine: Engine) -> Iterator[Engine]:
    """An engine that stands in for RisingWave, on the database of `engine`."""
    with standing_in(engine) as opened:
        yield opened


@pytest.fixture(params=["postgres", "risingwave"])
def either(engine: Engine, request: pytest.FixtureRequest) -> Engine:
    """One engine after the other: PostgreSQL, and the stand-in for RisingWave."""
    found: Engine = engine if request.param == "postgres" else request.getfixturevalue("standin")
    return found


@pytest.fixture
def settings(engine: Engine) -> Settings:
    """Settings whose database is that of `engine`, with a free port for the gateway."""
    return replace(engine.settings, port=0)

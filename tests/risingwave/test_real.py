"""The loop on a real RisingWave, if there is one: see tests/support/risingwave_real.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.control import policies
from headrace.control.handover import hand_over
from headrace.control.lifecycle import rollback
from headrace.dashboards.page import render
from headrace.deploy import migrate, prepare
from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.trainer.watch import Trainer
from tests.support.churn import MODEL, customers, send
from tests.support.competition import TRIGGER, compete
from tests.support.risingwave_real import database, needs_servers
from tests.support.waiting import until

pytestmark = needs_servers


@pytest.fixture(scope="module")
def real(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A RisingWave with all of Headrace in a database of its own, fed from topics of its own."""
    with database(server, tmp_path_factory.mktemp("home"), lease_s=5) as engine:
        yield engine


def test_a_second_migration_changes_nothing(real: Engine) -> None:
    before = real.rows("select name, sha256, deployed_at from control.deployed order by name")
    migrate(real)
    prepare(real)
    after = real.rows("select name, sha256, deployed_at from control.deployed order by name")
    assert [row["name"] for row in before] == ["dbt", "sql"]
    assert after == before


def test_policies_are_kept_and_put_back(real: Engine) -> None:
    assert policies.write(real, "m", {"cooldown": "2 days"})["own"] == {"cooldown": "2 days"}
    assert policies.write(real, "m", {"cooldown": None})["own"] == {}


def test_events_become_a_version_that_is_taken_back(real: Engine, tmp_path: Path) -> None:
    hand_over(real, MODEL, learns=True)
    send(real, customers(400, seed=1))
    until(lambda: real.rows("select due from headrace.retrain_trigger where due"), 120)
    with Trainer(real) as trainer:
        assert trainer.run_once()
        assert not trainer.run_once()
    until(lambda: real.rows("select * from headrace.serving_plan"), 60)
    with FeatureReader(real) as reader:
        found = reader.online([{"model": MODEL, "segment": "eu"}])
    assert found[0]["segment_features__labels_30d"]
    assert "v1" in render(real, MODEL, tmp_path / "loop.html").read_text()
    assert rollback(real, MODEL, "test") == ("v1", None)


def test_what_is_known_at_a_moment_stays_what_it_is(real: Engine) -> None:
    """A claim's `known_at` is `now()`: rows ingested by then are visible, and no more appear."""
    query = "select count(*) as n from events.inference where ingested_at <= %s"
    sending = threading.Thread(target=send, args=(real, customers(2_000, seed=7)))
    sending.start()
    seen = []
    while sending.is_alive():
        (row,) = real.rows(
            "select now() as moment, count(*) as n from events.inference where ingested_at <= now()"
        )
        seen.append((row["moment"], row["n"]))
    sending.join()
    real.flush()
    assert seen == [(moment, real.rows(query, [moment])[0]["n"]) for moment, _ in seen]


def test_one_of_many_trainers_gets_a_trigger(real: Engine) -> None:
    hand_over(real, TRIGGER.model, learns=True)
    with EventLog(real) as log:
        event = {"model": TRIGGER.model, "event_time": "2024-05-01T00:00:00Z"}
        log.append("inference", [parse("inference", event)])
    query = "select model from headrace.model_clock where model = %s"
    until(lambda: real.rows(query, [TRIGGER.model]), 60)
    assert len([held for held in compete(real, 6) if held is not None]) == 1

"""A trigger trains once: claims under competition, after death, and after the end."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from headrace.engine import Engine
from headrace.events import parse
from headrace.log import EventLog
from trainer.claim import Claim, Heartbeat, Trigger, claim

TRIGGER = Trigger("churn", "churn/1", "200 new labels", None)


@pytest.fixture(autouse=True)
def known_model(engine: Engine) -> None:
    event = parse("inference", {"model": "churn", "event_time": "2024-05-01T00:00:00Z"})
    with EventLog(engine) as log:
        log.append("inference", [event])


def test_one_of_many_trainers_gets_it(engine: Engine) -> None:
    got: list[Claim | None] = []
    start = threading.Barrier(8)

    def compete(name: str) -> None:
        start.wait()
        got.append(claim(engine, TRIGGER, name))

    threads = [threading.Thread(target=compete, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [one for one in got if one is not None]
    assert len(held) == 1
    assert held[0].event_clock == datetime(2024, 5, 1, tzinfo=UTC)


def test_dead_trainer_is_replaced_and_the_same_is_known(engine: Engine) -> None:
    first = claim(engine, TRIGGER, "dead")
    assert first is not None
    assert claim(engine, TRIGGER, "early") is None
    with engine.connect() as connection:
        connection.execute(
            "update control.claims set heartbeat_at = heartbeat_at - interval '1 day'"
        )
    second = claim(engine, TRIGGER, "heir")
    assert second is not None
    assert (second.run_id, second.known_at) == (first.run_id, first.known_at)
    assert second.attempt == 2
    with Heartbeat(engine, first) as ghost, Heartbeat(engine, second) as heir:
        assert not ghost.beat()
        assert ghost.lost
        assert heir.beat()


def test_finished_trigger_is_never_taken_again(engine: Engine) -> None:
    held = claim(engine, TRIGGER, "one")
    assert held is not None
    with Heartbeat(engine, held) as heartbeat:
        heartbeat.finish()
    with engine.connect() as connection:
        connection.execute(
            "update control.claims set heartbeat_at = heartbeat_at - interval '1 day'"
        )
    assert claim(engine, TRIGGER, "two") is None

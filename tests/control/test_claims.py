"""A trigger trains once: claims under competition, after death, and after the end."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headrace.control.claims import Heartbeat, claim
from headrace.control.handover import hand_over
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.events.contract import parse
from headrace.events.log import EventLog
from tests.support.competition import TRIGGER, compete
from tests.support.standin import grow_old


@pytest.fixture(autouse=True)
def known_model(engine: Engine) -> None:
    hand_over(engine, "churn", learns=True)
    event = parse("inference", {"model": "churn", "event_time": "2024-05-01T00:00:00Z"})
    with EventLog(engine) as log:
        log.append("inference", [event])


def test_one_of_many_trainers_gets_it(either: Engine) -> None:
    held = [one for one in compete(either, 8) if one is not None]
    assert len(held) == 1
    assert held[0].event_clock == datetime(2024, 5, 1, tzinfo=UTC)


def test_dead_trainer_is_replaced_and_the_same_is_known(either: Engine) -> None:
    first = claim(either, TRIGGER, "dead")
    assert first is not None
    assert claim(either, TRIGGER, "early") is None
    grow_old(either)
    second = claim(either, TRIGGER, "heir")
    assert second is not None
    assert (second.run_id, second.known_at) == (first.run_id, first.known_at)
    assert second.attempt == 2
    with Heartbeat(either, first) as ghost, Heartbeat(either, second) as heir:
        assert not ghost.beat()
        assert ghost.lost
        assert heir.beat()


def test_finished_trigger_is_never_taken_again(either: Engine) -> None:
    held = claim(either, TRIGGER, "one")
    assert held is not None
    with Heartbeat(either, held) as heartbeat:
        heartbeat.finish()
    grow_old(either)
    assert claim(either, TRIGGER, "two") is None


def test_one_of_many_heirs_gets_it(either: Engine) -> None:
    assert claim(either, TRIGGER, "dead") is not None
    grow_old(either)
    heirs = [heir for heir in compete(either, 6) if heir is not None]
    assert [heir.attempt for heir in heirs] == [2]


def test_who_shows_itself_meanwhile_keeps_it(standin: Engine) -> None:
    """The heir has written its attempt; the one before it beats before the heir looks again."""
    first = claim(standin, TRIGGER, "slow")
    assert first is not None
    grow_old(standin)
    flush = standin.dialect.flush
    beaten: list[bool] = []

    def beat_first(connection: Connection) -> None:
        flush(connection)
        if not beaten:
            beaten.append(True)
            with Heartbeat(standin, first) as heartbeat:
                assert not heartbeat.beat()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standin.dialect, "flush", beat_first)
        assert claim(standin, TRIGGER, "heir") is None
    grow_old(standin)
    third = claim(standin, TRIGGER, "third")
    assert third is not None and third.attempt == 3
    assert (third.run_id, third.known_at) == (first.run_id, first.known_at)


def test_a_beat_after_the_end_does_not_reopen_a_claim(either: Engine) -> None:
    held = claim(either, TRIGGER, "one")
    assert held is not None
    with Heartbeat(either, held) as heartbeat:
        heartbeat.finish()
    grow_old(either)
    assert claim(either, TRIGGER, "two") is None
    rows = either.rows("select finished_at is not null as done from control.claims")
    assert rows == [{"done": True}]

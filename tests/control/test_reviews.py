"""Claims of reviewers, on PostgreSQL and on the stand-in for RisingWave."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from headrace.control import reviews
from headrace.control.reviews import Candidate, Claim
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog


def predict(log: EventLog, count: int) -> None:
    now = datetime.now(UTC).isoformat()
    asked = [
        {"model": "m", "request_id": f"r{n}", "event_time": now, "score": 0.5, "prediction": "a"}
        for n in range(count)
    ]
    log.append("inference", [parse("inference", each) for each in asked])


def claim(engine: Engine, reviewer: str) -> tuple[Claim, Candidate] | None:
    return reviews.claim(engine, "m", reviewer, reviews.queue(engine, "m"))


def test_reviewers_at_once_have_one_claim_each(log: EventLog, either: Engine) -> None:
    predict(log, 3)
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda n: claim(either, f"p{n}"), range(4)))
    claims = [found[0] for found in taken if found]
    assert sorted(claim.request_id for claim in claims) == ["r0", "r1", "r2"]
    assert len({claim.reviewer for claim in claims}) == 3


def test_a_step_is_taken_once_and_an_attempt_by_one(log: EventLog, either: Engine) -> None:
    predict(log, 1)
    taken = claim(either, "ann")
    assert taken
    first, row = taken
    for _ in range(2):
        reviews.note(either, reviews.check(either, first.claim_id, "skipped"), "skipped")
    assert reviews.progress(either, "m", "ann")["skipped"] == 1
    assert reviews.claimed_by(either, "m", [row]) == {}
    assert claim(either, "ann") is None
    other = claim(either, "bob")
    assert other and (other[0].attempt, other[0].request_id) == (2, "r0")
    assert reviews.claimed_by(either, "m", [row]) == {first.prediction_id: "bob"}
    reviews.note(either, first, "unskipped")
    assert reviews.claim_again(either, first) is None


def test_a_label_that_the_views_have_not_seen_is_not_asked_for_again(
    log: EventLog, either: Engine
) -> None:
    """Through Kafka the view follows a moment later."""
    predict(log, 1)
    taken = claim(either, "ann")
    assert taken
    reviews.note(either, taken[0], "labeled")
    assert len(reviews.queue(either, "m")) == 1
    assert claim(either, "bob") is None


def test_a_replay_is_labelled_in_its_own_time(log: EventLog, engine: Engine) -> None:
    predict(log, 1)
    assert abs(reviews.said_at(engine, "m") - datetime.now(UTC)).total_seconds() < 60
    then = datetime(2024, 1, 1, tzinfo=UTC)
    old = {"model": "old", "event_time": then.isoformat(), "score": 0.5}
    log.append("inference", [parse("inference", old)])
    assert reviews.said_at(engine, "old") == then

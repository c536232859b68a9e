"""What several people say of one prediction: majorities, rewards, retractions, early rewards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from tests.support.label_oracle import is_early, label_of, utc
from tests.support.oracle import Oracle
from tests.support.policies import STRETCHES, stretched
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, START, Stream, first_of_each, send, streams


def ask(log: EventLog, *names: str) -> None:
    at = START.isoformat()
    rows = [{"model": "m", "request_id": name, "prediction": "spam"} for name in names]
    send(log, [("inference", parse("inference", {**row, "event_time": at})) for row in rows])


def say(log: EventLog, second: int, **said: Any) -> str:
    at = (START + timedelta(seconds=second)).isoformat()
    event = parse("feedback", {"request_id": "r", "event_time": at, **said})
    send(log, [("feedback", event)])
    return event.feedback_id  # type: ignore[union-attr]


def example(engine: Engine) -> dict[str, Any] | None:
    rows = engine.rows("select * from headrace.labeled_examples where request_id = 'r'")
    return rows[0] if rows else None


def test_the_majority_of_people_decides(engine: Engine, log: EventLog) -> None:
    ask(log, "r")
    for second, (user, label) in enumerate([("a", "spam"), ("b", "spam"), ("c", "ham")]):
        say(log, second, label=label, user_id=user)
    for _ in range(3):
        say(log, 3, label="ham", user_id="c")  # says it again
    row = example(engine)
    assert row and (row["label"], row["agreement"]) == ("spam", pytest.approx(2 / 3))
    say(log, 4, label="ham", user_id="b")  # changes their mind
    row = example(engine)
    assert row and (row["label"], row["agreement"]) == ("ham", pytest.approx(2 / 3))
    say(log, 5, label="spam", user_id="d")
    row = example(engine)
    assert row and (row["label"], row["agreement"]) == ("spam", 0.5)  # even: the latest


def test_later_feedback_of_nobody_in_particular_is_a_revision(
    engine: Engine, log: EventLog
) -> None:
    ask(log, "r")
    for second, label in enumerate(["spam", "spam", "spam", "ham"]):
        say(log, second, label=label)
    row = example(engine)
    assert row and (row["label"], row["agreement"]) == ("ham", 1)


def test_scores_of_several_names_are_kept_beside_label_and_reward(
    engine: Engine, log: EventLog
) -> None:
    names = [f"r{number}" for number in range(10)]
    ask(log, *names)
    for number, name in enumerate(names):
        at = {"request_id": name, "user_id": f"u{number % 3}"}
        liked = int(number < 8)
        say(log, 0, kind="thumbs", value=liked, metadata={"name": "user-thumbs"}, **at)
        say(log, 1, kind="rating", value=0.05, source="system", metadata={"name": "tox"}, **at)
        say(log, 2, label="billing", source="human", metadata={"name": "topic"}, **at)
    (row,) = engine.rows(
        "select count(distinct label) as labels, min(label) as label, avg(reward) as reward "
        "from headrace.labeled_examples"
    )
    assert row == {"labels": 1, "label": "billing", "reward": pytest.approx(0.8)}
    rows = engine.rows("select * from headrace.named_scores order by name")
    assert [(row["name"], row["scores"], row["mean_value"], row["last_label"]) for row in rows] == [
        ("topic", 10, None, "billing"),
        ("tox", 10, pytest.approx(0.05), "0.05"),
        ("user-thumbs", 10, pytest.approx(0.8), rows[2]["last_label"]),
    ]


def test_forty_clicks_of_one_user_are_one_report(engine: Engine, log: EventLog) -> None:
    ask(log, "r", "s")
    reports = [say(log, second, kind="report", user_id="u") for second in range(40)]

    def count() -> int:
        (row,) = engine.rows("select reports from headrace.report_rate where window_name = '1 day'")
        return int(row["reports"])

    assert count() == 1
    say(log, 50, kind="report", user_id="u", request_id="s")
    say(log, 51, kind="report", user_id="v")
    say(log, 52, kind="report")
    say(log, 53, kind="report")
    assert count() == 5
    for report in reports[1:]:
        say(log, 54, kind="retraction", retracts=report)
    assert count() == 5
    say(log, 55, kind="retraction", retracts=reports[0])
    assert count() == 4


def test_a_retraction_takes_a_label_back(engine: Engine, log: EventLog) -> None:
    ask(log, "r")
    first = say(log, 0, label="spam", user_id="a")
    second = say(log, 1, label="ham", user_id="a")
    say(log, 2, kind="retraction", retracts=second, request_id="other")  # not of that request
    row = example(engine)
    assert row and row["label"] == "ham"
    say(log, 2, kind="retraction", retracts=second)
    row = example(engine)
    assert row and row["label"] == "spam"
    say(log, 3, kind="retraction", retracts=first)
    assert example(engine) is None
    (counts,) = engine.rows("select sum(examples)::bigint as n from panes.label_counts")
    (windows,) = engine.rows(
        "select sum(labeled)::bigint as n from headrace.model_performance "
        "where window_name = '1 day'"
    )
    pending = engine.rows("select request_id from headrace.pending_labels")
    assert (counts["n"], windows["n"], pending) == (0, 0, [{"request_id": "r"}])
    # whoever comes too late was taken back already
    say(log, 9, kind="retraction", retracts="third")
    say(log, 8, label="spam", feedback_id="third")
    assert example(engine) is None


def test_what_expires_is_not_taken_out_of_what_stands_on_it(engine: Engine, log: EventLog) -> None:
    ask(log, "r")
    say(log, 0, label="spam")
    late = {"model": "m", "event_time": (START + timedelta(days=500)).isoformat()}
    send(log, [("inference", parse("inference", late))])
    before = engine.rows("select * from panes.label_counts")
    with engine.connect() as connection:
        connection.execute("select control.expire()")
    assert engine.rows("select * from panes.label_counts") == before


@EXAMPLES
@given(stream=streams(), stretch=STRETCHES)
def test_early_rewards_equal_recompute(
    engine: Engine,
    log: EventLog,
    stream: Stream,
    stretch: float,
) -> None:
    empty(engine)
    stream = stretched(stream, stretch)
    stream.send(log)
    oracle = Oracle(*first_of_each(stream))
    expected = {}
    for event in oracle.feedback.values():
        asked = oracle.inference.get(event.request_id)
        if asked is None or label_of(event) is None or not is_early(event, asked):
            continue
        age = oracle.clock(asked.model) - utc(event.event_time)
        if age < timedelta(days=30):
            early = utc(asked.event_time) - utc(event.event_time)
            expected[event.feedback_id] = early.total_seconds()
    rows = engine.rows("select feedback_id, early_seconds from headrace.early_rewards")
    assert {row["feedback_id"]: row["early_seconds"] for row in rows} == expected

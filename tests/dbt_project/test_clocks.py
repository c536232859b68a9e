"""One event with a wrong time changes no verdict, and who falls silent is missed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.policies import set_policies
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, START, send

# What has windows, references or trends.
VERDICTS = (
    "drift_windows", "feature_psi", "feature_drift", "prediction_drift", "label_drift",
    "recent_performance", "concept_drift", "drift_summary", "data_quality", "traffic_quality",
    "metric_forecast", "metric_points", "report_rate", "scaling_signal", "serving_errors",
    "rollback_trigger", "retrain_trigger", "review_queue", "alerts", "sample_spans",
)  # fmt: skip


def answer(request_id: str, at: datetime, **fields: Any) -> tuple[Topic, Event]:
    told = {"model": "m", "request_id": request_id, "event_time": at.isoformat(), **fields}
    return "inference", parse("inference", told)


def verdicts(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    return {
        view: sorted(engine.rows(f"select * from headrace.{view}"), key=repr) for view in VERDICTS
    }


_ages = st.integers(-300, 3 * 86400).map(lambda seconds: timedelta(seconds=seconds))


@EXAMPLES
@given(events=st.lists(st.tuples(st.integers(0, 10**6), _ages, st.booleans()), min_size=1))
def test_no_clock_is_ahead_of_when_its_events_came_in(
    engine: Engine, events: list[tuple[int, timedelta, bool]]
) -> None:
    empty(engine)
    times = []
    with engine.connect() as connection:
        for number, (second, age, is_feedback) in enumerate([(0, timedelta(0), False), *events]):
            ingested = START + timedelta(seconds=second)
            times.append(min(ingested - age, ingested))
            table, columns = "inference", "request_id, model, model_version, variant"
            values = [f"r{number}", "m", "1", "champion"]
            if is_feedback:
                table, columns = "feedback", "request_id, feedback_id, kind, source"
                values = ["r0", f"f{number}", "click", "user"]
            connection.execute(
                f"insert into events.{table} ({columns}, event_time, ingested_at) "
                "values (%s, %s, %s, %s, %s, %s)",
                [*values, ingested - age, ingested],
            )
    # A pair came in when its later half did, and the first answer came first.
    assert engine.rows("select event_clock from headrace.model_clock") == [
        {"event_clock": max(times)}
    ]


def test_an_answer_dated_ahead_hides_no_errors(engine: Engine, log: EventLog) -> None:
    now = datetime.now(UTC)
    lives = [
        {"model": "m", "model_version": version, "event": "promoted", "event_id": version,
         "event_time": (now - timedelta(days=days)).isoformat()}
        for version, days in (("1", 2), ("2", 1))
    ]  # fmt: skip
    send(log, [("model_events", parse("model_events", life)) for life in lives])
    send(
        log,
        [
            answer(
                f"r{n}", now - timedelta(seconds=100 - n / 2), model_version="2",
                error="timeout" if n % 2 else None,
            )
            for n in range(200)
        ],
    )  # fmt: skip
    due = "select due, reason, predictions from headrace.rollback_trigger where model_version = '2'"
    (before,) = engine.rows(due)
    assert before["due"], before
    send(log, [answer("ahead", datetime.now(UTC) + timedelta(seconds=290), model_version="2")])
    assert engine.rows(due) == [before]
    assert engine.rows("select alert from headrace.alerts where alert = 'errors'")
    clock = engine.rows("select event_clock from headrace.model_clock")[0]["event_clock"]
    assert clock <= datetime.now(UTC)


def test_a_trend_is_of_what_has_happened(engine: Engine, log: EventLog) -> None:
    empty(engine)
    for request_id, ahead in (("now", timedelta(0)), ("days ahead", timedelta(days=9))):
        at = datetime.now(UTC) + ahead
        said = answer(request_id, datetime.now(UTC), prediction="yes", score=0.5)
        label = parse("feedback", {"request_id": request_id, "label": "yes"})
        for topic, event in (said, ("feedback", label)):
            send(log, [(topic, msgspec.structs.replace(event, event_time=at))])
    points = engine.rows("select * from headrace.metric_points")
    assert {point["metric"] for point in points} == {"accuracy", "log_loss", "error_rate"}
    assert all(point["point_start"] <= point["window_end"] for point in points)


def modest() -> list[tuple[Topic, Event]]:
    """23 answers an hour for four days, with labels; on the last day their inputs differ."""
    rng = random.Random(1)
    events = []
    for number in range(4 * 24 * 23):
        at = START + timedelta(seconds=number * 3600 / 23)
        x = rng.gauss(3.0 if number > 3 * 24 * 23 else 0.0, 1)
        score = min(max(0.5 + 0.2 * x, 0.01), 0.99)
        predicted = "yes" if score > 0.5 else "no"
        events.append(
            answer(
                f"r{number}", at, features={"x": x}, score=score, prediction=predicted,
                latency_ms=10 + number % 7,
            )
        )  # fmt: skip
        if number % 2:
            said = {
                "feedback_id": f"f{number}", "request_id": f"r{number}",
                "label": predicted if rng.random() < 0.8 else "no",
                "event_time": (at + timedelta(minutes=5)).isoformat(),
            }  # fmt: skip
            events.append(("feedback", parse("feedback", said)))
    return events


def test_one_timestamp_of_1970_changes_no_verdict(engine: Engine, log: EventLog) -> None:
    set_policies(engine, positive_label="yes", retrain_every="30 days")
    send(log, modest())
    before = verdicts(engine)
    # Traffic as modest as this fills the windows.
    (psi,) = before["feature_psi"]
    assert (psi["status"], psi["feature"]) == ("drifted", "x")
    assert psi["psi"] > 1
    assert [row["status"] for row in before["prediction_drift"]] != ["too few rows"]
    # 100 answers take 4.4 hours; the current window is no longer than that and a pane.
    (windows,) = before["drift_windows"]
    taken = timedelta(hours=100 / 23)
    for start, end in (("reference_start", "reference_end"), ("window_start", "window_end")):
        assert taken <= windows[end] - windows[start] + timedelta(seconds=200) <= 1.3 * taken
    old = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    send(log, [answer("old", old, features={"x": 0.5}, score=0.5, prediction="no")])
    assert verdicts(engine) == before


def test_silence_is_told_by_the_wall_and_not_of_a_replay(engine: Engine) -> None:
    now = datetime.now(UTC)
    six = now - timedelta(hours=6)
    stories = {
        "silent": [(six, six)],
        "alive": [(six, six), (now, now)],
        "replayed": [(START, six)],
        "silent but for a replay": [(six, six), (START, now)],
    }
    with engine.connect() as connection:
        for model, events in stories.items():
            for number, (at, ingested) in enumerate(events):
                connection.execute(
                    "insert into events.inference "
                    "(request_id, event_time, ingested_at, model, model_version, variant) "
                    "values (%s, %s, %s, %s, '1', 'champion')",
                    [f"{model} {number}", at, ingested, model],
                )
    # Its silence of six hours is over: that is told for an hour.
    set_policies(engine, "alive", volume_gap="7 hours")
    rows = engine.rows(
        "select model, status, current_value from headrace.data_quality "
        "where check_name = 'volume_gap'"
    )
    alerting = {row["model"] for row in rows if row["status"] == "alert"}
    assert {row["model"] for row in rows} == stories.keys()
    assert alerting == {"silent", "silent but for a replay"}
    assert all(row["current_value"] >= 6 * 3600 for row in rows if row["model"] in alerting)
    alerts = engine.rows("select model from headrace.alerts where alert = 'volume_gap'")
    assert {row["model"] for row in alerts} == alerting

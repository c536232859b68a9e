"""Slices, feedback, reports, conversions and items, against plain Python over the events."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import psycopg
from hypothesis import given, settings

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support import analyst_oracle as naive
from tests.support.closeness import close
from tests.support.oracle import Oracle
from tests.support.policies import STRETCHES, set_policies, stretched
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, MODELS, START, Stream, first_of_each, send, streams

EXAMPLES = settings(EXAMPLES, max_examples=15)
MIN_SAMPLE = 3
VIEWS: dict[str, tuple[tuple[str, ...], Callable[[Oracle], naive.Rows]]] = {
    "slice_performance": (("model", "dimension", "slice", "day"), naive.slices),
    "feedback_trend": (("model", "model_version", "day"), naive.trend),
    "report_spikes": (("model", "dimension", "slice"), naive.spikes),
    "conversion_rate": (("model",), lambda oracle: naive.conversions(oracle, MIN_SAMPLE)),
    "catalogue_coverage": (("model", "window_name"), naive.coverage),
}


def with_thumbs(stream: Stream) -> Stream:
    """The same stream with thumbs for ratings, and reports that say what they are about."""

    def other(event: Any) -> Any:
        kind = getattr(event, "kind", None)
        if kind == "rating":
            return msgspec.structs.replace(event, kind="thumbs", value=float(event.value < 1))
        if kind == "report" and event.feedback_id > "f3":
            return msgspec.structs.replace(event, metadata={"type": "spam"})
        return event

    return Stream([[(topic, other(event)) for topic, event in batch] for batch in stream.batches])


@EXAMPLES
@given(stream=streams(), stretch=STRETCHES)
def test_views_equal_recompute(
    engine: Engine, log: EventLog, stream: Stream, stretch: float
) -> None:
    empty(engine)
    set_policies(engine, min_sample=str(MIN_SAMPLE))
    stream = stretched(with_thumbs(stream), stretch)
    stream.send(log)
    check(engine, Oracle(*first_of_each(stream)))


def check(engine: Engine, oracle: Oracle) -> None:
    for view, (key, expect) in VIEWS.items():
        rows = engine.rows(f"select * from headrace.{view}")
        actual = {tuple(row[name] for name in key): row for row in rows}
        expected = expect(oracle)
        assert len(actual) == len(rows)
        assert actual.keys() == expected.keys(), view
        for at, wanted in expected.items():
            row = {name: value for name, value in actual[at].items() if name not in key}
            assert row.keys() == wanted.keys(), view
            for name, value in wanted.items():
                if isinstance(value, float):
                    assert close(row[name], value, rel=1e-9, abs=1e-9), (view, at, name)
                else:
                    assert row[name] == value, (view, at, name)


def days(worse: bool) -> Iterator[tuple[Topic, Event]]:
    """Twenty days of two segments and endpoints; from the twelfth on one of each may get worse."""
    numbers = random.Random(7)
    for number in range(4000):
        at = START + timedelta(days=20) * number / 4000
        late = worse and number >= 2400
        segment, endpoint = numbers.choice("ab"), numbers.choice(["app", "web"])
        hit = numbers.random() < (0.5 if late and (segment, endpoint) == ("b", "web") else 0.9)
        yield "inference", parse("inference", {
            "request_id": f"q{number}", "event_time": at.isoformat(), "model": MODELS[0],
            "segment": segment, "endpoint": endpoint, "prediction": "yes",
            "item_id": f"i{number % 30}",
        })  # fmt: skip
        said: list[dict[str, Any]] = [{"label": "yes" if hit else "no"}]
        if number % (25 if late and number < 3800 else 2) == 0:
            said.append({"kind": "conversion"})
        if number % 100 == 0 or (worse and number >= 3900 and segment == "a"):
            of = "abuse" if number >= 3900 else "spam"
            said.append({"kind": "report", "metadata": {"type": of}})
        for place, each in enumerate(said):
            yield "feedback", parse("feedback", {
                "feedback_id": f"s{number}-{place}", "request_id": f"q{number}",
                "event_time": (at + timedelta(minutes=5 - place)).isoformat(), **each,
            })  # fmt: skip


def append(log: EventLog, events: Iterable[tuple[Topic, Event]]) -> None:
    told = list(events)
    for topic in ("inference", "feedback"):
        log.append(topic, [event for of, event in told if of == topic])


def test_what_got_worse_is_found_with_its_day(engine: Engine, log: EventLog) -> None:
    with engine.connect() as connection:
        connection.execute("set role headrace_reader")
        query = "select slice, day from headrace.slice_performance where drop_z >= 4"
        append(log, days(worse=False))
        assert connection.execute(query).fetchall() == []
        assert alerts(engine) == set()
    empty(engine)
    append(log, days(worse=True))
    found = {
        row["slice"]: row["since"]
        for row in engine.rows(
            "select distinct on (dimension, slice) slice, day as since, drop_z "
            "from headrace.slice_performance where drop_z >= 4 "
            "order by dimension, slice, drop_z desc"
        )
    }
    began = (START + timedelta(days=12)).replace(hour=0)
    assert found.keys() == {"b", "web"}
    assert all(abs(since - began) <= timedelta(days=1) for since in found.values())
    said = alerts(engine)
    assert {("report_spike", "topic abuse"), ("report_spike", "segment a")} <= said
    assert ("report_spike", "segment b") not in said


def alerts(engine: Engine) -> set[tuple[str, str]]:
    rows = engine.rows(
        "select alert, subject from headrace.alerts "
        "where alert in ('report_spike', 'conversion_drop')"
    )
    return {(row["alert"], row["subject"]) for row in rows}


@EXAMPLES
@given(stream=streams())
def test_the_history_of_a_request_has_everything_once(
    engine: Engine, log: EventLog, stream: Stream
) -> None:
    empty(engine)
    stream.send(log)
    oracle = Oracle(*first_of_each(stream))
    wanted = {
        (event.shadow_of or name, "shadow prediction" if event.shadow_of else "prediction", name)
        for name, event in oracle.inference.items()
    }
    for name, said in oracle.feedback.items():
        wanted.add((said.request_id, "feedback", name))
        if said.rejected_request_id is not None:
            wanted.add((said.rejected_request_id, "lost preference", name))
    wanted |= {
        (name, "label", name)
        for name in oracle.labels
        if oracle.inference[name].variant != "shadow"
    }
    rows = engine.rows("select request_id, step, step_id from headrace.request_history")
    assert sorted(tuple(row.values()) for row in rows) == sorted(wanted)


def test_readers_see_what_was_said_and_not_who_said_it(engine: Engine, log: EventLog) -> None:
    send(log, list(days(worse=False))[:200])
    forbidden = {"input", "output", "features", "user_id", "session_id", "metadata"}
    with psycopg.connect(engine.dsn) as connection:
        connection.execute("set role headrace_reader")
        for view in ("inferences", "feedback", "attributed_feedback", "request_history"):
            cursor = connection.execute(f"select * from headrace.{view}".encode())
            assert cursor.fetchone()
            assert not forbidden & {column.name for column in cursor.description or ()}
        connection.execute("set enable_seqscan = off")
        plan = connection.execute(
            "explain select * from headrace.request_history where request_id = 'q1'"
        ).fetchall()
    assert not any("Seq Scan" in row[0] for row in plan), plan

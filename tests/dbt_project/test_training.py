"""Late feedback, the review queue, and examples whose label is silence, against plain Python."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import Any

from hypothesis import given, settings

from headrace.engine import Engine
from headrace.events.contract import Topic, parse
from headrace.events.log import EventLog
from tests.support.label_oracle import Silence, label_of, utc
from tests.support.oracle import Oracle, as_class
from tests.support.policies import STRETCHES, set_policies, stretched
from tests.support.stored import empty, ids
from tests.support.streams import EXAMPLES, MODELS, START, Stream, first_of_each, send, streams

EXAMPLES = settings(EXAMPLES, max_examples=15)
LABEL_WINDOW = timedelta(hours=6)
SILENCE = {MODELS[0]: Silence("no", LABEL_WINDOW)}


@EXAMPLES
@given(stream=streams(), stretch=STRETCHES)
def test_training_views_equal_recompute(
    engine: Engine, log: EventLog, stream: Stream, stretch: float
) -> None:
    empty(engine)
    set_policies(engine, label_window=f"{LABEL_WINDOW.total_seconds()} seconds")
    for model, terms in SILENCE.items():
        set_policies(engine, model, default_label=terms.label)
    stream = stretched(stream, stretch)
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        events = first_of_each(Stream(stream.batches[: number + 1]))
        oracle = Oracle(*events, silence=SILENCE)
        assert late_rows(engine) == late_feedback(oracle)
        assert queue(engine) == review_queue(oracle)
        assert example_rows(engine) == labeled_examples(oracle)
        assert ids(engine, "request_id", "pending_labels") == sorted(
            oracle.pending_labels(LABEL_WINDOW)
        )
        rows = engine.rows("select model, new_labels, examples from headrace.retrain_trigger")
        assert {row["model"]: (row["new_labels"], row["examples"]) for row in rows} == counted(
            oracle
        )


def counted(oracle: Oracle) -> dict[str, tuple[int, int]]:
    """How many labels a first run would have: all of them are new."""
    expected = {}
    for model in {event.model for event in oracle.inference.values()}:
        examples = sum(
            event.request_id in oracle.settled
            for event in oracle.of(model)
            if event.variant != "shadow"
        )
        expected[model] = (examples, examples)
    return expected


def test_a_model_of_clicks_alone_has_two_classes(engine: Engine, log: EventLog) -> None:
    """Whoever clicks says 1; only silence says the other thing, and goes on saying it."""
    set_policies(engine, "m", learn="on", cooldown="0 seconds")
    send(log, clicks(0, 240))

    def trigger() -> dict[str, Any]:
        (row,) = engine.rows("select * from headrace.retrain_trigger")
        return row

    assert (trigger()["due"], trigger()["new_labels"]) == (False, 24)
    set_policies(engine, "m", default_label="0")
    assert (trigger()["due"], trigger()["reason"]) == (True, "240 new labels")
    run = {"model": "m", "model_version": "v1", "event": "trained"}
    at = START + timedelta(minutes=239)
    send(log, [("model_events", parse("model_events", {**run, "event_time": at.isoformat()}))])
    assert trigger()["new_labels"] == 0
    send(log, clicks(240, 300))
    assert (trigger()["new_labels"], trigger()["examples"]) == (60, 300)


def clicks(start: int, stop: int) -> list[tuple[Topic, Any]]:
    """Predictions a minute apart, and a click on every tenth."""
    events: list[tuple[Topic, Any]] = []
    for i in range(start, stop):
        time = (START + timedelta(minutes=i)).isoformat()
        asked = {
            "request_id": f"r{i}",
            "model": "m",
            "event_time": time,
            "prediction": f"ad{i % 3}",
        }
        events.append(("inference", parse("inference", asked)))
        if i % 10 == 0:
            said = {"request_id": f"r{i}", "kind": "click", "value": 1, "event_time": time}
            events.append(("feedback", parse("feedback", said)))
    return events


def late_rows(engine: Engine) -> dict[str, tuple[Any, ...]]:
    rows = engine.rows("select * from headrace.late_feedback")
    names = ("request_id", "label", "held_label", "decides_label", "late_seconds")
    found = {row["feedback_id"]: tuple(row[name] for name in names) for row in rows}
    assert len(found) == len(rows)
    return found


def late_feedback(oracle: Oracle) -> dict[str, tuple[Any, ...]]:
    expected = {}
    for event in oracle.feedback.values():
        inference = oracle.inference.get(event.request_id)
        if inference is None or label_of(event) is None:
            continue
        late = utc(event.event_time) - utc(inference.event_time) - LABEL_WINDOW
        age = oracle.clock(inference.model) - utc(event.event_time)
        if late > timedelta(0) and age < timedelta(days=30):
            held = oracle.labels.get(event.request_id)
            expected[event.feedback_id] = (
                event.request_id,
                label_of(event),
                held.label if held else None,
                held is not None and held.event is event,
                late.total_seconds(),
            )
    return expected


def queue(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    found = defaultdict(list)
    for row in engine.rows("select * from headrace.review_queue order by model, place"):
        found[row["model"]].append(
            (row["place"], row["request_id"], row["reason"], row["uncertainty"])
        )
    return found


def review_queue(oracle: Oracle) -> dict[str, list[tuple[Any, ...]]]:
    expected: dict[str, list[tuple[Any, ...]]] = {}
    for model in {event.model for event in oracle.inference.values()}:
        since = oracle.clock(model) - timedelta(days=1)
        open_ = []
        for event in oracle.of(model):
            held = oracle.labels.get(event.request_id)
            judged = held is not None and held.event is not None
            disputed = (
                held is not None
                and judged
                and held.kind in ("label", "correction")
                and held.raters >= 2 * held.agreeing
                and as_class(held.label) is not None
            )
            if event.variant == "shadow" or utc(event.event_time) <= since:
                continue
            if judged and not disputed:
                continue
            others = {
                as_class(shadow.prediction)
                for shadow in oracle.of(model)
                if shadow.shadow_of == event.request_id and shadow.prediction is not None
            }
            differs = event.prediction is not None and others - {as_class(event.prediction), None}
            reason = "uncertain" if event.score is not None else None
            reason = "disagreement" if differs else reason
            reason = "explored" if event.variant == "explore" else reason
            reason = "error" if event.error is not None else reason
            reason = "disputed" if disputed else reason
            uncertainty = None if event.score is None else 1 - abs(2 * event.score - 1)
            if reason:
                open_.append((event, reason, uncertainty))
        open_.sort(key=lambda row: row[0].request_id)
        open_.sort(key=lambda row: utc(row[0].event_time), reverse=True)
        open_.sort(key=lambda row: -1.0 if row[2] is None else row[2], reverse=True)
        open_.sort(key=lambda row: {"disputed": 0, "disagreement": 1}.get(row[1], 2))
        if open_:
            expected[model] = [
                (place, event.request_id, reason, uncertainty)
                for place, (event, reason, uncertainty) in enumerate(open_, 1)
            ]
    return expected


def example_rows(engine: Engine) -> dict[str, tuple[Any, ...]]:
    rows = engine.rows("select * from headrace.labeled_examples")
    names = ("feedback_id", "label", "reward", "kind", "status", "known_at")
    found = {row["request_id"]: tuple(row[name] for name in names) for row in rows}
    assert len(found) == len(rows)
    return found


def labeled_examples(oracle: Oracle) -> dict[str, tuple[Any, ...]]:
    expected: dict[str, tuple[Any, ...]] = {}
    for request_id, held in oracle.labels.items():
        inference = oracle.inference[request_id]
        closed = oracle.clock(inference.model) >= utc(inference.event_time) + LABEL_WINDOW
        expected[request_id] = (
            held.event.feedback_id if held.event else None,
            held.label,
            oracle.reward(inference),
            held.kind,
            "final" if closed else "provisional",
            held.known_at,
        )
    return expected


def test_a_queue_holds_a_hundred_of_the_newest(engine: Engine, log: EventLog) -> None:
    def inference(number: int) -> dict[str, Any]:
        return {
            "request_id": f"r{number:05d}",
            "model": "m",
            "event_time": f"2024-01-01T{number // 3600:02d}:{number // 60 % 60:02d}:"
            f"{number % 60:02d}Z",
            # the least certain ones are the oldest
            "score": 0.5 if number < 500 else 0.9,
        }

    count = 5_300
    send(log, [("inference", parse("inference", inference(number))) for number in range(count)])
    rows = engine.rows("select * from headrace.review_queue order by place")
    assert [row["place"] for row in rows] == [*range(1, 101)]
    # 300 predictions are too old to be looked at
    assert {row["uncertainty"] for row in rows} == {1.0}
    assert min(row["request_id"] for row in rows) >= "r00300"

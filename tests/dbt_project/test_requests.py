"""A request may have several predictions: each is as if it had a request of its own."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import msgspec
from hypothesis import given, settings

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.policies import set_policies
from tests.support.stored import empty, pane_names
from tests.support.streams import EXAMPLES, MODELS, START, Stream, send, streams

EXAMPLES = settings(EXAMPLES, max_examples=15)
# Columns that name a request, or tell the wall's clock.
LEFT_OUT = (
    "request_id", "shadow_of", "awaited_id", "step_id", "ingested_at", "arrived_at",
    "first_ingested_at", "last_ingested_at",
)  # fmt: skip
VIEWS = (
    "attributed_feedback", "labeled_examples", "pending_labels", "late_feedback", "early_rewards",
    "orphan_feedback", "request_history", "review_queue", "user_sessions", "model_performance",
    "recent_performance", "slice_performance", "shadow_agreement", "arm_stats", "user_features",
    "session_features", "item_features", "named_scores", "label_drift",
)  # fmt: skip


@EXAMPLES
@given(stream=streams())
def test_predictions_that_share_a_request_are_as_those_that_share_none(
    engine: Engine,
    log: EventLog,
    stream: Stream,
) -> None:
    seen = []
    for shared in (False, True):
        empty(engine)
        set_policies(engine, min_sample="3")
        for batch in stream.batches:
            send(log, [named(topic, event, shared) for topic, event in batch if is_one(event)])
        panes = {name: rows(engine, f"panes.{name}") for name in pane_names(engine)}
        del panes["answered_again"], panes["label_arrivals"]
        # One without a user and a session is grouped by its request.
        del panes["unit_panes"], panes["canary_unit_panes"]
        seen.append(panes | {name: rows(engine, f"headrace.{name}") for name in VIEWS})
    for name, expected in seen[0].items():
        assert seen[1][name] == expected, name


def is_one(event: Event) -> bool:
    """Whether it is about one prediction: a preference does not name the item of the other."""
    return getattr(event, "kind", "") != "preference"


def named(topic: Topic, event: Any, shared: bool) -> tuple[Topic, Event]:
    """The event, on one of six predictions of its request or on the only one; it says which."""
    number = int(event.request_id[1:])
    changed: dict[str, Any] = {"model": MODELS[number % 6 // 3], "item_id": f"i{number % 3}"}
    changed["request_id"] = request_of(number, shared)
    if getattr(event, "shadow_of", None):
        of = int(event.shadow_of[1:])
        changed["shadow_of"] = request_of(of - of % 6 + number % 6, shared)
    return topic, msgspec.structs.replace(event, **changed)


def request_of(number: int, shared: bool) -> str:
    return f"q{number // 6}" if shared else f"q{number // 6}-{number % 6}"


def rows(engine: Engine, relation: str) -> list[str]:
    return sorted(
        repr({name: value for name, value in row.items() if name not in LEFT_OUT})
        for row in engine.rows(f"select * from {relation}")
    )


def test_feedback_is_about_each_prediction_that_it_may_mean(
    engine: Engine,
    log: EventLog,
) -> None:
    at = START.isoformat()
    events: list[tuple[Topic, Event]] = [
        ("inference", parse("inference", {"request_id": "r", "event_time": at, **answer}))
        for answer in (
            {"model": "m", "item_id": "a"},
            {"model": "m", "item_id": "b"},
            {"model": "n"},
        )
    ]
    for place, said in enumerate(
        ({}, {"model": "m"}, {"model": "n"}, {"model": "m", "item_id": "b"}, {"item_id": "c"})
    ):
        payload = {"request_id": "r", "feedback_id": f"f{place}", "event_time": at, "label": "x"}
        events.append(("feedback", parse("feedback", {**payload, **said})))
    ma, mb, n = ("m", "a"), ("m", "b"), ("n", None)
    for order in list(permutations(events))[:: 8 * 7 * 6 * 31]:
        empty(engine)
        for event in order:
            send(log, [event])
        about: dict[str, set[Any]] = {}
        for row in engine.rows("select * from headrace.attributed_feedback"):
            about.setdefault(row["feedback_id"], set()).add((row["model"], row["item_id"]))
        assert about == {"f0": {ma, mb, n}, "f1": {ma, mb}, "f2": {n}, "f3": {mb}}
        found = engine.rows("select model, item_id, raters from panes.labels")
        assert {(row["model"], row["item_id"]) for row in found} == {ma, mb, n}
        (heard,) = engine.rows(
            "select sum(feedback)::int as n from panes.feedback_panes where grain = 'ever'"
        )
        assert heard["n"] == 7
        (waiting,) = engine.rows("select feedback_id, item_id from headrace.orphan_feedback")
        assert (waiting["feedback_id"], waiting["item_id"]) == ("f4", "c")

"""How senders spell a label changes nothing, and a different language on each side is told."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.control.policies import write
from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.stored import empty, pane_names
from tests.support.streams import EXAMPLES, START, Stream, send, streams

EXAMPLES = settings(EXAMPLES, max_examples=12)
# Of each set of spellings the first one is written throughout, then all of them.
WAYS: list[dict[str, list[Any]]] = [
    {"yes": ["yes", "Yes", "YES ", "\tyEs"], "no": ["no", "NO", "No\u00a0"], "maybe": ["maybe"]},
    {
        "yes": ["1", 1, 1.0, True, "1.0", "TRUE", " true"],
        "no": ["0", 0, -0.0, False, "-0.0", "False"],
        "maybe": ["Größe", "GRÖßE", "größe"],
    },
]
# Panes of single events, and their columns that keep what was said.
SAID = {
    "labels": ("label", "prediction"),
    "known_labels": ("label",),
    "opinions": ("label",),
    "shadow_pairs": ("shadow_prediction", "served_prediction"),
    "waiting_feedback": ("label",),
}
# Columns of the wall's clock.
WALL = ("first_ingested_at", "last_ingested_at", "ingested_at", "arrived_at")
VIEWS = (
    "model_performance", "recent_performance", "data_quality", "user_features", "label_drift",
    "user_feature_history", "item_features", "positive_labels", "shadow_agreement", "arm_stats",
)  # fmt: skip


@EXAMPLES
@given(
    stream=streams(), ways=st.sampled_from(WAYS), silence=st.booleans(), seed=st.integers(0, 2**16)
)
def test_spelling_changes_nothing(
    engine: Engine,
    log: EventLog,
    stream: Stream,
    ways: dict[str, list[Any]],
    silence: bool,
    seed: int,
) -> None:
    rng = random.Random(seed)
    seen = []
    for each in (lambda texts: texts[0], rng.choice):
        empty(engine)
        default = each(ways["no"]) if silence else ""
        write(engine, "*", {"positive_label": each(ways["yes"]), "default_label": default})
        for batch in stream.batches:
            send(log, [(topic, respelled(topic, event, ways, each)) for topic, event in batch])
        panes = {name: kept(engine, name) for name in pane_names(engine)}
        del panes["label_arrivals"]
        seen.append((panes, {name: view(engine, name) for name in VIEWS}))
    for one, other in zip(*seen, strict=True):
        for name, rows in one.items():
            assert rows == other[name], name


def respelled(topic: Topic, event: Event, ways: dict[str, list[Any]], each: Any) -> Event:
    payload = msgspec.to_builtins(event)
    for name in ("label", "prediction"):
        if payload.get(name) in ways:
            payload[name] = each(ways[payload[name]])
    return parse(topic, payload)


def kept(engine: Engine, pane: str) -> list[str]:
    """The rows of a pane without what was said, and without the wall's clock."""
    said = SAID.get(pane, ())
    return sorted(
        repr({k: v for k, v in row.items() if k not in said and k not in WALL})
        for row in engine.rows(f"select * from panes.{pane}")
    )


def view(engine: Engine, name: str) -> list[str]:
    return sorted(map(repr, engine.rows(f"select * from headrace.{name}")))


@pytest.mark.parametrize(
    ("said", "label", "found"),
    [
        ("legit", "fraud", {"label_never_predicted", "prediction_never_label"}),
        (["fraud", "legit"], ["1", "0"], {"label_never_predicted", "prediction_never_label"}),
        (["fraud", "legit"], "FRAUD", set()),
        ("Fraud", ["fraud ", "legit"], set()),
        (None, "fraud", set()),
        (12.75, "19.25", set()),
    ],
)
def test_labels_in_another_language_than_the_predictions_alert(
    engine: Engine,
    log: EventLog,
    said: Any,
    label: Any,
    found: set[str],
) -> None:
    def one(of: Any, number: int) -> Any:
        return of[number % len(of)] if isinstance(of, list) else of

    events: list[tuple[Topic, Event]] = []
    for number in range(100):
        told = {"request_id": f"r{number}", "event_time": START.isoformat()}
        inference = {**told, "model": "m", "prediction": one(said, number)}
        events.append(("inference", parse("inference", inference)))
        events.append(("feedback", parse("feedback", {**told, "label": one(label, number)})))
    send(log, events)
    query = (
        "select {} as name from headrace.{} where {} "
        "in ('label_never_predicted', 'prediction_never_label') and {} = '{}'"
    )
    quality = query.format("check_name", "data_quality", "check_name", "status", "alert")
    alerts = query.format("alert", "alerts", "alert", "state", "firing")
    for rows in (engine.rows(quality), engine.rows(alerts)):
        assert {row["name"] for row in rows} == found

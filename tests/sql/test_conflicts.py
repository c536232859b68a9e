"""No event is lost: the first content of an id stays, and every other one is listed."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.contract import IDS, KEYS, STRUCTS, Topic, parse
from headrace.events.log import EventLog, Filled, Stored
from headrace.events.rows import Receipt
from tests.support.stored import empty

NOON = "2024-05-01T12:00:00Z"
VALUES: dict[str, list[Any]] = {
    "model": ["m", "n"], "item_id": [None, "", "i"], "score": [None, 0.5, 0.25],
    "segment": [None, "", "a"],
    "features": [{}, {"x": 1}, {"x": 1.0}, {"x": "1"}, {"y": None, "x": 1}, {"x": 1, "y": None}],
    "output": [None, [1, 2], [2, 1], {"a": 1e300}], "prediction": [None, "yes", 1, "1", 1.0, True],
    "event_time": [None, NOON, "2024-05-01T14:00:00+02:00", "2024-05-01T12:00:00.5Z"],
    "label": ["yes", "no", 1], "value": [None, 1, 1.0, 2], "metadata": [{}, {"a": [1]}],
    "request_id": ["r", "s"], "model_version": ["1"], "event": ["trained", "promoted"],
    "metrics": [{}, {"auc": 0.5}], "reason": [None, "why"],
}  # fmt: skip
NAMES: dict[Topic, tuple[str, ...]] = {
    "inference": ("model", "item_id", "score", "segment", "features", "output", "prediction"),
    "feedback": ("request_id", "label", "value", "metadata"),
    "model_events": ("model", "model_version", "event", "metrics", "reason"),
}
Sent = tuple[Topic, dict[str, Any]]


@st.composite
def payloads(draw: st.DrawFn) -> Sent:
    """An event with one of three ids of a topic, and any of a few values in its fields."""
    topic = draw(st.sampled_from([*NAMES]))
    names = {*NAMES[topic], "event_time"}
    payload = {name: draw(st.sampled_from(VALUES[name])) for name in sorted(names)}
    return topic, {**payload, IDS[topic]: draw(st.sampled_from("abc"))}


def content(topic: Topic, payload: dict[str, Any]) -> dict[str, Any]:
    """The content of an event, with its numbers as numbers."""
    event = parse(topic, payload)
    return {name: getattr(event, name) for name in STRUCTS[topic].__struct_fields__}


def differing(topic: Topic, first: dict[str, Any], again: dict[str, Any]) -> list[str]:
    one, other = content(topic, first), content(topic, again)
    filled = {"event_time"} if again["event_time"] is None else set()
    return [name for name in one if one[name] != other[name] and name not in filled]


def send(log: EventLog, batch: list[Sent]) -> list[Stored]:
    futures: list[Stored] = []
    for topic, payload in batch:
        filled = ["event_time"] if payload["event_time"] is None else []
        futures.append(log.submit(topic, [Filled(parse(topic, payload), filled)]))
    return futures


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(payloads(), min_size=1, max_size=12), min_size=1, max_size=3))
def test_conflicts_equal_recompute(
    engine: Engine, log: EventLog, batches: list[list[Sent]]
) -> None:
    empty(engine)
    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    expected: Counter[tuple[str, str, str, str]] = Counter()
    for batch in batches:
        for (topic, payload), future in zip(batch, send(log, batch), strict=True):
            (receipt,) = future.result(60)
            key = key_of(topic, payload)
            if key not in first:
                first[key] = payload
                assert receipt == Receipt("accepted")
            elif fields := differing(topic, first[key], payload):
                assert receipt.status == "conflict"
                assert sorted(receipt.differing) == sorted(fields)
                shown = said(topic, payload)
                expected[topic, payload[IDS[topic]], shown, ", ".join(receipt.differing)] += 1
            else:
                assert receipt == Receipt("duplicate")
    rows = engine.rows("select * from headrace.conflicting_events")
    found: Counter[tuple[str, str, str, str]] = Counter()
    for row in rows:
        shown = json.dumps(json.loads(row["payload"]), sort_keys=True)
        found[row["topic"], row["event_id"], shown, row["differing"]] += row["times"]
        if row["topic"] == "feedback":
            request = first["feedback", row["event_id"]]["request_id"]
            models = [key[2] for key in first if key[:2] == ("inference", request)]
            assert row["model"] == min(models, default=None)
        elif row["topic"] == "inference":
            sent = json.loads(row["payload"])
            assert row["model"] == sent["model"]
            assert key_of("inference", sent) in first
        else:
            assert row["model"] == first["model_events", row["event_id"]]["model"]
        assert row["ingested_at"] <= row["last_ingested_at"]
    assert found == expected
    assert len({(row["topic"], row["event_id"], row["content_md5"]) for row in rows}) == len(rows)


def key_of(topic: Topic, payload: dict[str, Any]) -> tuple[Any, ...]:
    return topic, *(payload.get(name) for name in KEYS[topic])


def said(topic: Topic, payload: dict[str, Any]) -> str:
    """The payload of a conflict: the whole event, without a time that its sender did not give."""
    event = content(topic, payload)
    if payload["event_time"] is None:
        del event["event_time"]
    shown = {name: value for name, value in event.items() if value is not None}
    if "event_time" in shown:
        shown["event_time"] = shown["event_time"].isoformat().replace("+00:00", "Z")
    return json.dumps(shown, sort_keys=True)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    batches=st.lists(st.lists(payloads(), min_size=1, max_size=10), min_size=2, max_size=12),
    logs=st.integers(1, 2),
)
def test_whoever_sends_what_at_once_each_id_is_stored_once_and_nothing_vanishes(
    engine: Engine, batches: list[list[Sent]], logs: int
) -> None:
    """Several senders, also through logs of several processes; small batches, so many overlap."""
    empty(engine)
    small = Engine(engine.dsn, replace(engine.settings, batch_rows=3, linger_ms=0))
    with ExitStack() as opened, ThreadPoolExecutor(4) as pool:
        ways = [opened.enter_context(EventLog(small)) for _ in range(logs)]
        sending = [
            pool.submit(send, ways[number % logs], batch) for number, batch in enumerate(batches)
        ]
        futures = [future for each in sending for future in each.result()]
        statuses = Counter(receipt.status for each in futures for receipt in each.result(60))
    sent = [each for batch in batches for each in batch]
    keys = {key_of(topic, payload) for topic, payload in sent}
    assert statuses["accepted"] == len(keys)
    assert statuses.total() == len(sent) and not statuses["rejected"]
    stored = [
        (topic, *row.values())
        for topic, names in KEYS.items()
        for row in engine.rows(f"select {', '.join(names)} from events.{topic}")
    ]
    assert len(stored) == len(keys) and set(stored) == keys
    (kept,) = engine.rows("select sum(times)::bigint as n from headrace.conflicting_events")
    assert (kept["n"] or 0) == statuses["conflict"]


def test_a_sender_that_repeats_itself_is_counted_and_not_kept_each_time(engine: Engine) -> None:
    first = parse("inference", {"model": "m", "request_id": "r", "event_time": NOON})
    again = {"model": "m", "request_id": "r", "score": 0.5}
    with EventLog(engine) as log:
        log.append("inference", [first])
        for _ in range(20):
            items = [Filled(parse("inference", again), ["event_time"]) for _ in range(50)]
            assert log.append("inference", items) == [Receipt("conflict", ("score",))] * 50
    rows = engine.rows("select differing, payload, times from headrace.conflicting_events")
    assert [(row["differing"], row["times"]) for row in rows] == [("score", 1_000)]
    assert "event_time" not in rows[0]["payload"]

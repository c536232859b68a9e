"""What became of each version, whatever came at the same instant, in whatever order it arrived."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.contract import ModelEvent, parse
from headrace.events.log import EventLog
from tests.support.rewards import LIFE, in_order
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, START, send

EXAMPLES = settings(EXAMPLES, max_examples=40)
_steps = st.tuples(
    st.sampled_from(["v1", "v2", "v10"]), st.sampled_from(LIFE), st.sampled_from(["00", "00", "01"])
)


@st.composite
def lives(draw: st.DrawFn) -> list[ModelEvent]:
    """Steps of three versions, most of them at one instant, their ids in any order."""
    steps = draw(st.lists(_steps, min_size=1, max_size=8))
    ids = draw(st.permutations(range(len(steps))))
    return [
        step(version, event, f"e{place}", minute)
        for (version, event, minute), place in zip(steps, ids, strict=True)
    ]


def step(version: str, event: str, event_id: str, minute: str = "00") -> ModelEvent:
    payload: dict[str, Any] = {
        "model": "m", "model_version": version, "event": event, "event_id": event_id,
        "event_time": START.isoformat().replace(":00:00", f":{minute}:00", 1),
        "artifact_uri": version,
    }  # fmt: skip
    return cast(ModelEvent, parse("model_events", payload))


def statuses(events: list[ModelEvent]) -> dict[str, tuple[str, int | None]]:
    """What each version is, and its place among those that are promoted, the newest first."""
    latest: dict[str, ModelEvent] = {}
    for event in in_order(events):
        latest[event.model_version] = event
    led = in_order(event for event in latest.values() if event.event == "promoted")[::-1]
    found: dict[str, tuple[str, int | None]] = {
        version: (event.event, None) for version, event in latest.items()
    }
    for place, event in enumerate(led, 1):
        found[event.model_version] = ("champion" if place == 1 else "superseded", place)
    return found


def told(engine: Engine) -> dict[str, tuple[str, int | None]]:
    rows = engine.rows("select model_version, status, place from headrace.model_versions")
    return {row["model_version"]: (row["status"], row["place"]) for row in rows}


@EXAMPLES
@given(events=lives(), data=st.data())
def test_any_arrival_and_any_ids_make_one_champion(
    engine: Engine,
    log: EventLog,
    events: list[ModelEvent],
    data: st.DataObject,
) -> None:
    wanted = statuses(events)
    for _ in range(2):
        empty(engine)
        send(log, [("model_events", event) for event in data.draw(st.permutations(events))])
        assert told(engine) == wanted
        plan = engine.rows("select * from headrace.serving_plan where variant = 'champion'")
        assert [row["model_version"] for row in plan] == [
            version for version, (status, _) in wanted.items() if status == "champion"
        ]


@pytest.mark.parametrize(("trained", "promoted"), [("z", "a"), ("a", "z")])
def test_trained_and_promoted_at_one_instant(
    engine: Engine,
    log: EventLog,
    trained: str,
    promoted: str,
) -> None:
    events = [step("v1", "trained", f"{trained}-trained"), step("v1", "promoted", f"{promoted}-p")]
    send(log, [("model_events", event) for event in events])
    assert told(engine) == {"v1": ("champion", 1)}


@EXAMPLES
@given(events=lives())
def test_a_rollback_goes_to_the_second_place(
    engine: Engine,
    log: EventLog,
    events: list[ModelEvent],
) -> None:
    empty(engine)
    send(log, [("model_events", event) for event in events])
    before = {place: version for version, (_, place) in told(engine).items() if place}
    if before:
        send(log, [("model_events", step(before[1], "rolled_back", "back", "02"))])
        after = {place: version for version, (_, place) in told(engine).items() if place}
        assert after == {place - 1: version for place, version in before.items() if place > 1}

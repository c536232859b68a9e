"""No feature leaks its own label: feedback on a prediction never changes its features."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.definitions import (
    item_features,
    segment_features,
    session_features,
    user_features,
)
from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.events.contract import Event, Feedback, Inference, parse
from headrace.events.log import EventLog
from headrace.features.as_of import copied, embedded
from headrace.features.reader import FeatureReader
from headrace.features.view_sql import ViewSql
from headrace.trainer.dataset import compile_dataset
from tests.support.label_oracle import utc
from tests.support.policies import STRETCHES, stretched
from tests.support.segment_labels import START
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, Stream, first_of_each, streams

TICK, SECOND, MINUTE = timedelta(microseconds=1), timedelta(seconds=1), timedelta(minutes=1)
HOUR, MONTH = timedelta(hours=1), timedelta(days=30)


HISTORIES = {
    "segment": ViewSql.of(segment_features),
    "user_id": ViewSql.of(user_features),
    "session_id": ViewSql.of(session_features),
    "item_id": ViewSql.of(item_features),
}
Events = tuple[dict[str, Inference], dict[str, Feedback]]
Features = dict[tuple[str, str], tuple[Any, ...]]


def as_of(engine: Engine, asked: Sequence[Inference]) -> Features:
    """Return the features of each inference as of its own time; both joins must agree."""
    found: Features = {}
    with engine.connect() as connection:
        for key, view in HISTORIES.items():
            known = [one for one in asked if getattr(one, key) is not None]
            entities = [(one.model, getattr(one, key), one.event_time) for one in known]
            if not entities:
                continue
            names = list(view.features)
            rows = copied(connection, view, names, entities)
            assert embedded(connection, view, names, entities) == rows
            found |= {(key, one.request_id): row for one, row in zip(known, rows, strict=True)}
    return found


def told(engine: Engine, log: EventLog, events: Events) -> None:
    empty(engine)
    inferences, feedback = events
    log.append("inference", [*inferences.values()])
    if feedback:
        log.append("feedback", [*feedback.values()])


def known_at(one: Feedback, inferences: dict[str, Inference]) -> datetime:
    asked = inferences.get(one.request_id)
    return max(utc(one.event_time), utc(asked.event_time)) if asked else utc(one.event_time)


def flipped(one: Feedback) -> Feedback:
    other: dict[Any, str] = {"yes": "no", "no": "yes"}
    return msgspec.structs.replace(one, label=other.get(one.label, one.label))


@st.composite
def minutes(draw: st.DrawFn) -> Stream:
    """Inferences at and near whole minutes, labeled before, at and after their own times."""
    moment = st.builds(
        lambda minute, aside: START + minute * MINUTE + aside,
        st.integers(0, 3),
        st.sampled_from([-TICK, 0 * TICK, TICK, 20 * SECOND, 40 * SECOND]),
    )
    lag = st.sampled_from(
        [-HOUR, -MINUTE, -TICK, 0 * TICK, TICK, SECOND, 59 * SECOND, MINUTE, HOUR, MONTH]
    )
    events: list[tuple[Any, Event]] = []
    for number in range(draw(st.integers(1, 12))):
        asked = draw(moment)
        row = {"request_id": f"r{number}", "model": "m", "event_time": asked.isoformat()}
        row |= {"segment": "a", "user_id": "ana", "session_id": "s1", "item_id": "i1"}
        events.append(("inference", parse("inference", {**row, "prediction": "yes"})))
        said = {"request_id": f"r{number}", "label": draw(st.sampled_from(["yes", "no"]))}
        at = {"feedback_id": f"f{number}", "event_time": (asked + draw(lag)).isoformat()}
        events.append(("feedback", parse("feedback", {**said, **at})))
    return Stream([events])


@EXAMPLES
@given(stream=minutes() | streams(), stretch=STRETCHES, data=st.data())
def test_feedback_on_a_prediction_leaves_its_features_alone(
    engine: Engine, log: EventLog, stream: Stream, stretch: float, data: st.DataObject
) -> None:
    inferences, feedback = first_of_each(stretched(stream, stretch) if stretch < 1 else stream)
    told(engine, log, (inferences, feedback))
    moment = utc(data.draw(st.sampled_from(list(inferences.values()))).event_time)
    asked = [one for one in inferences.values() if utc(one.event_time) <= moment]
    before = as_of(engine, asked)
    changed = {
        name: flipped(one) if known_at(one, inferences) >= moment else one
        for name, one in feedback.items()
    }
    told(engine, log, (inferences, changed))
    assert as_of(engine, asked) == before


@EXAMPLES
@given(stream=minutes() | streams(), data=st.data())
def test_of_segments_the_past_is_not_told_by_what_comes_after(
    engine: Engine, log: EventLog, stream: Stream, data: st.DataObject
) -> None:
    """Whether a label comes at all, and how fast, may say what it is."""
    inferences, feedback = first_of_each(stream)
    told(engine, log, (inferences, feedback))
    moment = utc(data.draw(st.sampled_from(list(inferences.values()))).event_time)
    asked = [one for one in inferences.values() if utc(one.event_time) <= moment]
    before = as_of(engine, asked)
    earlier = {name: one for name, one in feedback.items() if known_at(one, inferences) < moment}
    told(engine, log, (inferences, earlier))
    after = as_of(engine, asked)
    segments = [name for name in before if name[0] == "segment"]
    assert {name: after[name] for name in segments} == {name: before[name] for name in segments}


def claimed(engine: Engine) -> Claim:
    (row,) = engine.rows(
        "select clock_timestamp() as now, event_clock from headrace.model_clock where model = 'm'"
    )
    return Claim("m/1", "m", "w", "run", 1, row["now"], row["now"], row["event_clock"])


@pytest.mark.parametrize("delay", [-HOUR, 0 * TICK, SECOND], ids=["before", "same", "after"])
@pytest.mark.parametrize("place", [lambda n: 5 * n, lambda n: n // 10, lambda _: 0])
def test_a_table_with_one_time_a_row_teaches_nothing_of_itself(
    either: Engine, engine: Engine, delay: timedelta, place: Callable[[int], int]
) -> None:
    """Each row has a segment of its own, so any label that is known to it would be its own."""
    chance = random.Random(5)
    times = [START + place(number) * MINUTE for number in range(60)]
    rows = [{"model": "m", "request_id": f"r{n}", "event_time": at.isoformat(),
             "segment": f"s{n}"} for n, at in enumerate(times)]  # fmt: skip
    said = [{"request_id": f"r{n}", "label": chance.choice(["ok", "fraud"]),
             "event_time": (at + delay).isoformat()} for n, at in enumerate(times)]  # fmt: skip
    with EventLog(engine) as log:
        log.append("inference", [parse("inference", row) for row in rows])
        log.append("feedback", [parse("feedback", row) for row in said])
    claim = claimed(engine)
    with FeatureReader(either) as reader:
        dataset = compile_dataset(either, claim, reader)
        later = pd.DataFrame(
            {"model": "m", "segment": ["s0"], "event_timestamp": [times[0] + 3 * MINUTE]}
        )
        names = reader.names
        assert len(dataset.rows) == 60
        assert [dict(row.example.features) for row in dataset.rows] == [dict.fromkeys(names)] * 60
        assert reader.historical(later)[names[0]].tolist() == [1]


def test_what_was_served_is_trained_on_as_it_was_served(
    either: Engine, engine: Engine, log: EventLog
) -> None:
    """A label is served as soon as it is known, and is history from the end of its minute on."""
    with FeatureReader(either) as reader:
        for number, second in enumerate((0, 10, 20)):
            inference = {"model": "m", "request_id": f"r{number}", "segment": "a"}
            at = {"event_time": (START + second * SECOND).isoformat()}
            served = {} if number == 1 else reader.online([inference])[0]
            log.append("inference", [parse("inference", {**inference, **at, "features": served})])
            label = {"request_id": f"r{number}", "label": "ny"[number % 2]}
            log.append("feedback", [parse("feedback", {**label, **at})])
        rows = compile_dataset(either, claimed(engine), reader).rows
        assert [row.example.features[reader.names[0]] for row in rows] == [None, None, 2]

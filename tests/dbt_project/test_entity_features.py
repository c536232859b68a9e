"""Features of users, items and segments: as known at any past moment, and as served now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings

from headrace.engine import Engine
from headrace.events.log import EventLog
from tests.dbt_project.test_views import EXAMPLES, close, empty
from tests.support.oracle import Oracle, as_class, hour, label_of, minute, utc
from tests.support.policies import STRETCHES, stretched
from tests.support.streams import Stream, first_of_each, send, streams

EXAMPLES = settings(EXAMPLES, max_examples=15)
# Rewards are added up exactly, and become a double once.
SUM = {"rel": 1e-12}
MONTH, HOUR, TICK = timedelta(days=30), timedelta(hours=1), timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
COLUMNS = (
    "last_seen", "predictions_30d", "labels_30d", "positives_30d", "positive_rate_30d",
    "reward_30d",
)  # fmt: skip
Key = tuple[str, str]


@dataclass
class Facts:
    """The history of a user or an item: its predictions and its labels."""

    inferences: list[datetime] = field(default_factory=list)
    labels: list[tuple[datetime, bool, float]] = field(default_factory=list)

    def between(self, start: datetime, end: datetime) -> tuple[Any, ...]:
        """The features that hold after what happened in [start, end)."""
        inferences = [time for time in self.inferences if start <= time < end]
        labels = [label for label in self.labels if start <= label[0] < end]
        if not inferences and not labels:
            return (None,) * len(COLUMNS)
        positives = sum(positive for _, positive, _ in labels)
        return (
            max(inferences, default=None),
            len(inferences),
            len(labels),
            positives,
            positives / len(labels) if labels else None,
            float(sum(reward for _, _, reward in labels)),
        )


@pytest.fixture
def log(engine: Engine) -> Iterator[EventLog]:
    with EventLog(engine) as opened:
        yield opened


@EXAMPLES
@given(stream=streams(), stretch=STRETCHES)
def test_features_equal_recompute(
    engine: Engine, log: EventLog, stream: Stream, stretch: float
) -> None:
    empty(engine)
    stream = stretched(stream, stretch)
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        oracle = Oracle(*first_of_each(Stream(stream.batches[: number + 1])))
        check_users(engine, oracle)
        check_items(engine, oracle)
        check_segments(engine, oracle)


def facts(oracle: Oracle, entity: str) -> dict[Key, Facts]:
    found: dict[Key, Facts] = defaultdict(Facts)
    for event in oracle.inference.values():
        key = getattr(event, entity)
        if key is None or event.variant == "shadow":
            continue
        of_key = found[event.model, key]
        asked = utc(event.event_time)
        of_key.inferences.append(asked)
        if held := oracle.labels.get(event.request_id):
            known_at = max(utc(held.event.event_time), asked)
            positive = held.label == oracle.positive_of(event.model)
            of_key.labels.append((known_at, positive, oracle.reward(event)))
    return found


def check_users(engine: Engine, oracle: Oracle) -> None:
    history, served = rows(engine, "user")
    known = facts(oracle, "user_id")
    ends = {key: oracle.clock(key[0]) + TICK for key in known}
    wanted: dict[Key, dict[datetime, tuple[Any, ...]]] = defaultdict(dict)
    for key, of_key in known.items():
        moments = [*of_key.inferences, *(time for time, _, _ in of_key.labels)]
        for moment in moments:
            for at in (moment + TICK, moment + TICK + MONTH):
                if at <= ends[key]:
                    # what happened at this very moment is not known yet
                    wanted[key][at] = of_key.between(at - MONTH, at)
    assert_same(history, wanted)
    now = {key: {ends[key]: of_key.between(ends[key] - MONTH, ends[key])}
           for key, of_key in known.items()}  # fmt: skip
    assert_same(served, without_empty(now))
    assert_served_is_last(served, history)


def check_items(engine: Engine, oracle: Oracle) -> None:
    history, served = rows(engine, "item")
    known = facts(oracle, "item_id")
    ends = {key: hour(oracle.clock(key[0])) + HOUR for key in known}
    wanted: dict[Key, dict[datetime, tuple[Any, ...]]] = defaultdict(dict)
    for key, of_key in known.items():
        moments = [*of_key.inferences, *(time for time, _, _ in of_key.labels)]
        for moment in moments:
            for at in (hour(moment) + HOUR, hour(moment) + HOUR + MONTH):
                if at <= ends[key]:
                    wanted[key][at] = of_key.between(at - MONTH, at)
    assert_same(history, wanted)
    now = {key: {ends[key]: of_key.between(ends[key] - MONTH, ends[key])}
           for key, of_key in known.items()}  # fmt: skip
    assert_same(served, without_empty(now))
    assert_served_is_last(served, history)


def check_segments(engine: Engine, oracle: Oracle) -> None:
    """All feedback counts, from the end of its minute on; revisions take none back."""
    feedback: dict[Key, list[tuple[datetime, bool]]] = defaultdict(list)
    for said in oracle.feedback.values():
        asked = oracle.inference.get(said.request_id)
        label = as_class(label_of(said))
        if asked is None or asked.segment is None or label is None:
            continue
        known_at = minute(max(utc(said.event_time), utc(asked.event_time)))
        feedback[asked.model, asked.segment].append(
            (known_at, label == oracle.positive_of(asked.model))
        )
    wanted: dict[tuple[Key, datetime], tuple[int, int, float]] = {}
    for key, of_key in feedback.items():
        for last, _ in of_key:
            counted = [positive for at, positive in of_key if last - MONTH <= at <= last]
            rate = sum(counted) / len(counted)
            wanted[key, last + MINUTE] = (len(counted), sum(counted), rate)
    assert segments(engine, "segment_feature_history") == wanted
    newest = {key: max(at for at, _ in of_key) + MINUTE for key, of_key in feedback.items()}
    served = {(key, at): wanted[key, at] for key, at in newest.items()}
    assert segments(engine, "segment_features") == served


def segments(engine: Engine, view: str) -> dict[tuple[Key, datetime], tuple[int, int, float]]:
    read = engine.rows(f"select * from headrace.{view}")
    found = {
        ((row["model"], row["segment"]), row["event_timestamp"]): (
            row["labels_30d"], row["positives_30d"], row["positive_rate_30d"]
        )
        for row in read
    }  # fmt: skip
    assert len(found) == len(read)
    return found


Rows = dict[Key, dict[datetime, tuple[Any, ...]]]


def rows(engine: Engine, entity: str) -> tuple[Rows, Rows]:
    """All rows of the history and of what is served, by key and time."""
    found = []
    for view in (f"{entity}_feature_history", f"{entity}_features"):
        by_key: Rows = defaultdict(dict)
        read = engine.rows(f"select * from headrace.{view}")
        for row in read:
            values = tuple(row[name] for name in COLUMNS)
            by_key[row["model"], row[f"{entity}_id"]][row["event_timestamp"]] = values
        assert sum(map(len, by_key.values())) == len(read)
        found.append(by_key)
    return found[0], found[1]


def without_empty(rows: Rows) -> Rows:
    return {
        key: of_key for key, of_key in rows.items() if any(values[1:3] != (None, None)
        for values in of_key.values())
    }  # fmt: skip


def assert_same(actual: Rows, wanted: Rows) -> None:
    assert actual.keys() == wanted.keys()
    for key, of_key in wanted.items():
        assert actual[key].keys() == of_key.keys(), key
        for at, values in of_key.items():
            assert actual[key][at][:-1] == values[:-1], (key, at)
            assert close(actual[key][at][-1], values[-1], **SUM), (key, at)


def assert_served_is_last(served: Rows, history: Rows) -> None:
    """What is served now is what history will say of now."""
    for key, of_key in history.items():
        last = of_key[max(of_key)]
        if last[1] is None:
            assert key not in served
        else:
            assert [*served[key].values()] == [last]

"""Features of users, sessions, items and segments: as known at a past moment, as served now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given, settings

from headrace.engine import Engine
from headrace.events.contract import Inference, parse
from headrace.events.log import EventLog
from tests.support.closeness import close
from tests.support.label_oracle import Silence, label_of, utc
from tests.support.oracle import Oracle, hour, minute
from tests.support.policies import STRETCHES, set_policies, stretched
from tests.support.rewards import SILENCES, Story
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, START, Stream, first_of_each, send, streams

EXAMPLES = settings(EXAMPLES, max_examples=15)
# Rewards are added up exactly, and become a double once.
SUM = {"rel": 1e-12}
MONTH, HOUR, TICK = timedelta(days=30), timedelta(hours=1), timedelta(microseconds=1)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
COLUMNS = (
    "last_seen", "predictions_30d", "labels_30d", "positives_30d", "positive_rate_30d",
    "reward_30d",
)  # fmt: skip
Key = tuple[str, str]


@dataclass
class Facts:
    """The history of a user, a session or an item: its predictions and its labels."""

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


@EXAMPLES
@given(stream=streams(), stretch=STRETCHES, silence=SILENCES)
def test_features_equal_recompute(
    engine: Engine, log: EventLog, stream: Stream, stretch: float, silence: Silence | None
) -> None:
    empty(engine)
    stream = stretched(stream, stretch)
    story = Story(stream, [], silence)
    story.govern(engine)
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        events = first_of_each(Stream(stream.batches[: number + 1]))
        oracle = Oracle(*events, silence=story.silence)
        check_callers(engine, oracle, "user")
        check_callers(engine, oracle, "session")
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
        if (held := oracle.settled.get(event.request_id)) and held.settled_at:
            positive = held.label == oracle.positive_of(event.model)
            of_key.labels.append((held.settled_at, positive, oracle.reward(event)))
    return found


def check_callers(engine: Engine, oracle: Oracle, entity: str) -> None:
    history, served = rows(engine, entity)
    known = facts(oracle, f"{entity}_id")
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
    """Labels count as they were known then, from the end of the minute on."""
    states = {key: list(known_then(oracle, key)) for key in segments_of(oracle)}
    ends = {key: minute(oracle.clock(key[0])) + MINUTE for key in states}

    def then(key: Key, at: datetime) -> tuple[Any, ...]:
        last = [[state for state in of_one if state[0] < at][-1:] for of_one in states[key]]
        labels = [
            label
            for of_one in last
            for moment, label in of_one
            if label is not None and minute(moment) >= at - MONTH
        ]
        positives = labels.count(oracle.positive_of(key[0]))
        if not labels:
            return None, None, None
        return len(labels), positives, positives / len(labels)

    history = segments(engine, "segment_feature_history")
    for key in history.keys() | states.keys():
        begun = {minute(moment) + MINUTE for of_one in states[key] for moment, _ in of_one}
        for at in sorted(begun | {at + MONTH for at in begun} | history.get(key, {}).keys()):
            if at <= ends[key]:
                rows = [row for time, row in sorted(history.get(key, {}).items()) if time <= at]
                assert (rows[-1] if rows else (None,) * 3) == then(key, at), (key, at)
        assert all(time <= ends[key] for time in history.get(key, {}))
    now = {key: {ends[key]: then(key, ends[key])} for key in states}
    served = {key: of_key for key, of_key in now.items() if of_key[ends[key]][0] is not None}
    assert segments(engine, "segment_features") == served


def segments_of(oracle: Oracle) -> set[Key]:
    return {
        (event.model, event.segment)
        for event in oracle.inference.values()
        if event.segment is not None and event.variant != "shadow"
    }


def known_then(oracle: Oracle, key: Key) -> Iterator[list[tuple[datetime, str | None]]]:
    """Of every prediction of a segment the moments at which something was said, and the label."""
    for asked in oracle.inference.values():
        if (asked.model, asked.segment) != key or asked.variant == "shadow":
            continue
        known_at = {
            said.feedback_id: max(utc(said.event_time), utc(asked.event_time))
            for said in oracle.feedback.values()
            if said.request_id == asked.request_id
            and (label_of(said) is not None or said.kind == "retraction")
        }
        states = []
        for moment in sorted(set(known_at.values())):
            heard = [
                said
                for said in oracle.standing(moment)
                if label_of(said) is not None
                and said.request_id == asked.request_id
                and known_at[said.feedback_id] <= moment
            ]
            held = oracle.decided(asked, heard)
            states.append((moment, held.label if held else None))
        yield settled_then(oracle, asked, states)


State = tuple[datetime, str | None]


def settled_then(oracle: Oracle, asked: Inference, states: list[State]) -> list[State]:
    """What counts of these states: where silence is a label, from the end of the window on."""
    terms = oracle.silence.get(asked.model)
    if terms is None:
        return states
    closes_at = utc(asked.event_time) + terms.window
    if closes_at > oracle.clock(asked.model):
        return []
    before = [label for moment, label in states if moment <= closes_at]
    later = [(moment, label) for moment, label in states if moment > closes_at]
    return [
        (moment, terms.label if label is None else label)
        for moment, label in [(closes_at, before[-1] if before else None), *later]
    ]


def segments(engine: Engine, view: str) -> dict[Key, dict[datetime, tuple[Any, ...]]]:
    found: dict[Key, dict[datetime, tuple[Any, ...]]] = defaultdict(dict)
    read = engine.rows(f"select * from headrace.{view}")
    for row in read:
        values = row["labels_30d"], row["positives_30d"], row["positive_rate_30d"]
        found[row["model"], row["segment"]][row["event_timestamp"]] = values
    assert sum(map(len, found.values())) == len(read)
    return dict(found)


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


def test_a_changed_mind_is_one_label_and_a_month_is_thirty_days(
    engine: Engine, log: EventLog
) -> None:
    """By segment, user, session and item: the same labels, however often they were said."""
    set_policies(engine, positive_label="yes")

    def asked(name: str, day: int) -> dict[str, Any]:
        entity = dict.fromkeys(("segment", "user_id", "session_id", "item_id"), name)
        return {"model": "m", "event_time": (START + day * DAY).isoformat(), **entity}

    def say(name: str, day: int, *labels: str) -> None:
        for number in range(10):
            inference = {"request_id": f"{name}{number}", **asked(name, day)}
            send(log, [("inference", parse("inference", inference))])
        for place, label in enumerate(labels):
            at = {"event_time": (START + day * DAY + place * HOUR).isoformat(), "label": label}
            for number in range(10 if place == 0 else 6):
                said = {"request_id": f"{name}{number}", **at}
                send(log, [("feedback", parse("feedback", said))])

    say("quiet", 0, "yes")
    say("disputed", 75, "yes", "no")
    say("resent", 75, "yes", "yes", "yes")
    for view, key in (
        ("segment", "segment"), ("user", "user_id"), ("session", "session_id"), ("item", "item_id"),
    ):  # fmt: skip
        rows = engine.rows(f"select * from headrace.{view}_features")
        found = {row[key]: (row["labels_30d"], row["positives_30d"]) for row in rows}
        assert found == {"disputed": (10, 4), "resent": (10, 10)}, view

"""The features of a row are what could be known at its own prediction, whatever came in later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.labels import class_of
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.trainer.counting import dominated
from headrace.trainer.dataset import Dataset, build_dataset, compile_dataset, record_dataset
from headrace.trainer.known_segments import FEATURES, Asked
from headrace.trainer.recorded import rebuild_dataset
from tests.support.label_oracle import LabelOracle, label_of, utc
from tests.support.oracle import minute
from tests.support.policies import set_policies, stretched
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, MODELS, START, Stream, first_of_each, send, streams

MONTH, MINUTE = timedelta(days=30), timedelta(minutes=1)
SILENT, WINDOW = "no", timedelta(hours=6)
NAMES = tuple(f"segment_features__{name}" for name in FEATURES)
Known = tuple[int | None, int | None, float | None]


def claimed(engine: Engine, model: str, run: str = "run") -> Claim:
    (row,) = engine.rows(
        "select clock_timestamp() as now, event_clock from headrace.model_clock where model = %s",
        [model],
    )
    return Claim(f"{model}/1", model, "w", run, 1, row["now"], row["now"], row["event_clock"])


def features(dataset: Dataset) -> dict[str, Known]:
    return {
        row.request_id: tuple(row.example.features[name] for name in NAMES)  # type: ignore[misc]
        for row in dataset.rows
    }


class Naive:
    """What a prediction could know of its segment: plain Python over what had come in by then."""

    def __init__(self, engine: Engine, stream: Stream, dataset: Dataset) -> None:
        self.inference, self.feedback = first_of_each(stream)
        self.arrived = {
            row["id"]: row["ingested_at"]
            for row in engine.rows(
                "select request_id as id, ingested_at from events.inference "
                "union all select feedback_id, ingested_at from events.feedback"
            )
        }
        query = dataset.query
        self.kinds = {policy["kind"] for policy in query["label_policies"]}
        self.positive, self.default = query["positive_label"], query["default_label"]

    def known(self, request_id: str) -> Known:
        asked = self.inference[request_id]
        if asked.segment is None:
            return None, None, None
        labels = [
            label
            for name, one in self.inference.items()
            if (one.model, one.segment) == (asked.model, asked.segment) and one.variant != "shadow"
            for label in self._label_then(name, utc(asked.event_time), self.arrived[request_id])
        ]
        if not labels:
            return None, None, None
        if self.positive is None:
            return len(labels), None, None
        positives = sum(class_of(label) == self.positive for label in labels)
        return len(labels), positives, positives / len(labels)

    def _label_then(self, name: str, at: datetime, by: datetime) -> Iterator[str]:
        """The label of a prediction, if it had one that counted at a time and had come in."""
        one = self.inference[name]
        closes_at = utc(one.event_time) + (WINDOW if self.default else timedelta(0))
        about = [
            event
            for event in self.feedback.values()
            if event.request_id == name and event.kind not in ("preference", "report", "comment")
        ]
        moments = {max(self.arrived[event.feedback_id], self.arrived[name]) for event in about}
        if self.default:
            moments.add(self.arrived[name])
        last = None
        for moment in sorted(moments):
            heard = [
                event
                for event in about
                if max(self.arrived[event.feedback_id], self.arrived[name]) <= moment
            ]
            times = [max(utc(event.event_time), utc(one.event_time)) for event in heard]
            counts_from = max([*times, closes_at])
            if moment <= by and minute(counts_from) < minute(at):
                last = counts_from, heard
        if last is None or minute(last[0]) < minute(at) - MONTH:
            return
        oracle = LabelOracle({name: one}, {event.feedback_id: event for event in last[1]})
        said = [
            event
            for event in oracle.standing()
            if label_of(event) is not None and event.kind in self.kinds
        ]
        held = oracle.decided(one, said)
        if held is not None:
            yield held.label
        elif self.default:
            yield self.default


@settings(EXAMPLES, max_examples=20)
@given(
    stream=streams(),
    factor=st.sampled_from([0.02, 1, 30]),
    silent=st.booleans(),
    task=st.sampled_from(["classification", "reward"]),
    positive=st.sampled_from(["yes", ""]),
)
def test_features_equal_a_recompute(
    either: Engine,
    engine: Engine,
    log: EventLog,
    stream: Stream,
    factor: float,
    silent: bool,
    task: str,
    positive: str,
) -> None:
    empty(engine)
    set_policies(engine, task=task, positive_label=positive, label_window="6 hours")
    set_policies(engine, MODELS[0], default_label=SILENT if silent else "")
    stream = stretched(stream, factor)
    sets = []
    with FeatureReader(either) as reader:
        for number, batch in enumerate(stream.batches):
            send(log, batch)
            so_far = Stream(stream.batches[: number + 1])
            for row in engine.rows("select model from headrace.model_clock"):
                dataset = compile_dataset(
                    either, claimed(engine, row["model"], f"{number}"), reader
                )
                naive = Naive(engine, so_far, dataset)
                known = features(dataset)
                assert known == {name: naive.known(name) for name in known}
                sets.append((row["model"], known))
        # What is kept between claims is what the events give again.
        with engine.connect() as connection:
            connection.execute("delete from control.segment_labels")
        if sets:
            assert build_dataset(either, "again", dataset.query, reader).sha256 == dataset.sha256
    # How many labels a prediction knew is the same in every later set.
    first: dict[tuple[str, str], int | None] = {}
    for model, known in sets:
        for name, (labels, _, _) in known.items():
            assert first.setdefault((model, name), labels) == labels


def told(log: EventLog, *rows: tuple[str, datetime, str | None]) -> None:
    """Send (request, time, label) one after the other: a prediction, or feedback on it."""
    for name, at, label in rows:
        row: dict[str, Any] = {"request_id": name, "event_time": at.isoformat()}
        if label is None:
            row |= {"model": "m", "segment": "a", "prediction": "yes"}
            log.append("inference", [parse("inference", row)])
        else:
            log.append("feedback", [parse("feedback", row | {"label": label})])


def at(minutes: int) -> datetime:
    return START + minutes * MINUTE


def test_a_late_label_on_another_request_changes_nothing(
    either: Engine, engine: Engine, log: EventLog
) -> None:
    """Its time is before the prediction's, but it comes in after it; and again after the claim."""
    told(log, ("a", at(0), None), ("b", at(1), None), ("a", at(2), "no"), ("c", at(10), None))
    told(log, ("b", at(3), "yes"), ("c", at(11), "no"), ("d", at(20), None), ("d", at(21), "no"))
    claim = claimed(engine, "m")
    with FeatureReader(either) as reader:
        dataset = compile_dataset(either, claim, reader)
        labels = {name: known[0] for name, known in features(dataset).items()}
        assert labels == {"a": None, "b": None, "c": 1, "d": 3}
        with either.writing() as connection:
            record_dataset(either, connection, claim, dataset)
        told(log, ("e", at(4), None), ("e", at(5), "no"), ("a", at(6), "yes"))
        assert rebuild_dataset(either, "run", reader).rows == dataset.rows
        later = compile_dataset(either, claimed(engine, "m", "later"), reader)
        assert {name: known for name, known in features(later).items() if name != "e"} == features(
            dataset
        )


@pytest.mark.parametrize(("days", "labels"), [(0, None), (2, 1)], ids=["live", "replayed"])
def test_a_label_that_came_in_after_the_time_of_a_live_prediction_is_not_known(
    engine: Engine, log: EventLog, days: int, labels: int | None
) -> None:
    """Of a replay the order in which events came in is all that there is."""
    now = datetime.now(UTC) - timedelta(days=days)
    times = [now - 50 * MINUTE, now - 40 * MINUTE, now - 30 * MINUTE, now - 20 * MINUTE]
    told(log, ("a", times[0], None), ("a", times[1], "no"))
    told(log, ("b", times[2], None), ("b", times[3], "yes"))
    with FeatureReader(engine) as reader:
        dataset = compile_dataset(engine, claimed(engine, "m"), reader)
    assert features(dataset)["b"][0] == labels


def test_a_future_prediction_knows_no_more_than_when_it_came_in() -> None:
    ahead = Asked("a", START + MINUTE, START)
    assert ahead.known_at == START


@given(st.data(), st.integers(0, 60), st.integers(0, 20))
def test_points_are_counted_as_by_hand(data: st.DataObject, points: int, queries: int) -> None:
    def drawn(count: int, least: int = 0) -> NDArray[np.int64]:
        numbers = st.lists(st.integers(least, 9), min_size=count, max_size=count)
        return np.array(data.draw(numbers), dtype=np.int64)

    x, y, weights = drawn(points), drawn(points), drawn(2 * points, -3).reshape(-1, 2)
    at_x, at_y = drawn(queries, -1), drawn(queries, -1)
    wanted = [
        weights[(x < one_x) & (y <= one_y)].sum(axis=0)
        for one_x, one_y in zip(at_x, at_y, strict=True)
    ]
    assert dominated(x, y, weights, at_x, at_y).tolist() == [row.tolist() for row in wanted]

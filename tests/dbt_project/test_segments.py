"""Drift by segment equals a naive recompute, and names the segment that the total hides."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.contract import Event, Inference, Topic, parse
from headrace.events.log import EventLog
from tests.support.closeness import check_rows
from tests.support.distances import feature_distances
from tests.support.drift_oracle import Policies, at
from tests.support.oracle import Oracle, Row, hour
from tests.support.policies import set_policies, stretched
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, START, Stream, first_of_each, send, streams
from tests.support.text_oracle import TextOracle

# chi_square_p_value: its roots are only nearly normal, worst at half a degree.
CHI_SQUARE = 0.07


class SegmentOracle(TextOracle):
    """What segment_drift should hold, by model, segment and feature."""

    def segment_drift(self) -> dict[tuple[str, str, str], Row]:
        rows = {}
        for model in self.models:
            found = {}
            sides = [values(side) for side in self.hours(model)]
            panes = values(self.hours(model)[0], lambda event, _: hour(at(event)))
            for key in sides[0].keys() | sides[1].keys():
                old, new = (side.get(key, []) for side in sides)
                found[key] = feature_distances(old, new, panes.get(key, []))
            tests = sum(
                row[p] is not None
                for row, is_identifier in found.values()
                if not is_identifier
                and min(row["reference_rows"], row["current_rows"]) >= self.policies.min_sample
                for p in ("chi_square_p_value", "ks_p_value")
            )
            for key, (row, is_identifier) in found.items():
                is_sure = self._is_sure(row["chi_square_p_value"], tests)
                row["tests"] = tests
                row["status"] = self._status(row, is_sure, self._is_apart(row, tests))
                if is_identifier and row["status"] != "too few rows":
                    row["status"] = "identifier"
                row["segments"] = len({segment for segment, _ in found})
                for name in ("js_divergence", "reference_others", "current_others"):
                    del row[name]
                rows[model, *key] = row
        return rows


def values(
    events: list[Inference], held: Callable[[Inference, Any], Any] = lambda _, value: value
) -> dict[tuple[str, str], list[Any]]:
    """The values of each feature in each segment, or what is `held` of them."""
    found = defaultdict(list)
    for event in events:
        for name, value in event.features.items():
            if event.segment is not None:
                found[event.segment, name].append(held(event, value))
    return found


@settings(EXAMPLES, max_examples=15)
@given(
    stream=streams(),
    factor=st.sampled_from([1, 10]),
    drift_window=st.sampled_from([1, 9, 72]),
    min_sample=st.sampled_from([1, 2, 4]),
)
def test_views_equal_recompute(
    engine: Engine, log: EventLog, stream: Stream, factor: int, drift_window: int, min_sample: int
) -> None:
    empty(engine)
    policies = Policies(min_sample=min_sample, drift_window=timedelta(hours=drift_window))
    set_policies(
        engine,
        min_sample=f"{min_sample}",
        drift_window=f"{drift_window} hours",
        drift_alpha=f"{policies.drift_alpha}",
    )
    stream = stretched(stream, factor)
    stream.send(log)
    expected = SegmentOracle(Oracle(*first_of_each(stream)), policies, {}).segment_drift()
    rows = engine.rows("select * from headrace.segment_drift")
    key = ("model", "segment", "feature")
    check_rows(rows, key, expected, {"chi_square_p_value": CHI_SQUARE})


def told(rows: int, segments: int, moved: str) -> list[tuple[Topic, Event]]:
    """An hour of predictions and, half a day later, one where x and plan differ in one segment."""
    rng = random.Random(8)
    events: list[tuple[Topic, Event]] = []
    for number in range(2 * rows):
        late, segment = number >= rows, f"s{number % segments}"
        is_moved = late and segment == moved
        fields = {
            "model": "m", "model_version": "v1", "request_id": f"r{number}", "segment": segment,
            "event_time": (START + timedelta(hours=12 * late, seconds=number % 3000)).isoformat(),
            "features": {
                "x": rng.gauss(is_moved, 1), "plan": rng.choice("aaab" if is_moved else "ab"),
                "noise": rng.random(), "id": f"u{number}",
            },
        }  # fmt: skip
        events.append(("inference", parse("inference", fields)))
    return events


def test_a_drift_in_one_segment_of_five_is_named(engine: Engine, log: EventLog) -> None:
    send(log, told(1500, 5, "s3"))
    rows = engine.rows("select segment, feature, status from headrace.segment_drift")
    assert len(rows) == 5 * 4
    moved = {(r["segment"], r["feature"]): r["status"] for r in rows}
    drifted = {key for key, status in moved.items() if status == "drifted"}
    assert drifted == {("s3", "x"), ("s3", "plan")}
    assert "moving" not in moved.values()
    assert {status for (_, name), status in moved.items() if name == "id"} == {"identifier"}
    total = engine.rows("select feature, status from headrace.feature_psi where feature != 'id'")
    assert {row["status"] for row in total} == {"stable"}


def test_of_many_segments_the_largest_are_compared(engine: Engine, log: EventLog) -> None:
    """Sixty segments in which nothing changes, the last of them with half as many predictions."""
    events = told(6600, 66, "none")
    kept = [
        (topic, event)
        for number, (topic, event) in enumerate(events)
        if number % 66 < 50 or number % 132 < 66
    ]
    send(log, kept)
    rows = engine.rows("select segment, status, segments from headrace.segment_drift")
    assert {row["segments"] for row in rows} == {66}
    assert {row["segment"] for row in rows} == {f"s{number}" for number in range(50)}
    assert {row["status"] for row in rows} == {"stable", "identifier"}


def test_predictions_without_a_segment_are_left_out(engine: Engine, log: EventLog) -> None:
    event = {"model": "m", "request_id": "r", "features": {"x": 1}}
    send(log, [("inference", parse("inference", event))])
    assert engine.rows("select * from panes.segment_feature_panes") == []

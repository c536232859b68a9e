"""Streams of events as applications send them at their worst: late, twice, reversed, revised."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog

START = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
MODELS = ("fraud", "größe ✓")
LABELS = ("yes", "no")
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

_times = st.integers(0, 40 * 3600).map(lambda s: (START + timedelta(seconds=s)).isoformat())
_numbers = st.one_of(
    st.sampled_from([0, 1, -1, 0.1, 1e-12, -1e12, 1e290, 2**40]),
    st.floats(-1e6, 1e6, allow_nan=False),
)
_scores = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 0.999, 1.0]), st.floats(0, 1))
_probabilities = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from([*LABELS, "YES", "maybe", "other", "12.5"]), _scores.map(lambda x: x or 0)
    ),
)
_texts = st.sampled_from(
    [
        None,
        "",
        "no text",
        "The door - the OLD door! - opens, 24 hours a day; don't close it.",
        "古い扉は一日中開いている。古い扉は一日中開いている。閉めないでください。二十四時間。どうぞ、お入りください。",
        "word " * 90,
    ]
)
_texts_within = st.one_of(
    _texts,
    st.sampled_from(
        [7, True, ["one", ["two"]], {"a": "\\ 1", "b": {"c": 'say "b": now\n', "d": ""}}]
    ),
)
_features = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.one_of(st.none(), _numbers, st.sampled_from(["n/a"])),
        "country": st.sampled_from(["", "DE", "日本", "x" * 120, None]),
        "vip": st.booleans(),
        "note": _texts,
    },
)


_variants = st.one_of(
    st.fixed_dictionaries(
        {"variant": st.sampled_from(["champion", "champion", "canary", "explore", "holdout"])}
    ),
    st.fixed_dictionaries(
        {
            "variant": st.just("shadow"),
            "shadow_of": st.one_of(st.none(), st.integers(0, 25).map(lambda i: f"r{i}")),
        }
    ),
)


@st.composite
def _inferences(draw: st.DrawFn) -> dict[str, Any]:
    number = draw(st.integers(0, 25))
    return {
        "request_id": f"r{number}",
        "event_time": draw(_times),
        # A request has one prediction here; tests/dbt_project/test_requests.py has others.
        "model": MODELS[number % 2],
        "item_id": (None, "i1", "i2")[number % 3],
        "model_version": draw(st.sampled_from(["v1", "v2"])),
        **draw(_variants),
        "segment": draw(st.sampled_from([None, "", "a", "b"])),
        "endpoint": draw(st.sampled_from([None, "web", "app"])),
        "user_id": draw(st.sampled_from([None, "", "ana", "李"])),
        "session_id": draw(st.sampled_from([None, None, "s1"])),
        "propensity": draw(st.sampled_from([None, 1.0, 0.5, 0.01])),
        "target_propensity": draw(st.sampled_from([None, 1.0, 0.5, 0.0])),
        "position": draw(st.sampled_from([None, 1, 7])),
        "features": draw(_features),
        "input": draw(_texts_within),
        "output": draw(_texts_within),
        "prediction": draw(st.sampled_from([None, *LABELS, "maybe", 3.25, "12.5"])),
        "score": draw(_scores),
        "probabilities": draw(_probabilities),
        "latency_ms": draw(st.one_of(st.none(), st.floats(0, 1e4))),
        "error": draw(st.sampled_from([None, None, "timeout"])),
    }


@st.composite
def _feedback(draw: st.DrawFn) -> dict[str, Any]:
    said: dict[str, Any] = draw(
        st.sampled_from(
            [
                {"kind": "label", "label": "yes"},
                {"kind": "label", "label": "no"},
                {"kind": "click"},
                {"kind": "rating", "value": 0.5},
                {"kind": "rating", "value": 12.75},
                {"kind": "purchase", "value": 3},
                {"kind": "report"},
                {"kind": "preference", "rejected_request_id": "r1"},
                {"kind": "preference", "rejected_request_id": "r2"},
                {"kind": "preference", "rejected_request_id": "r2", "value": 0.5},
                {"kind": "rating", "value": 2, "metadata": {"name": "tone"}},
                {"kind": "label", "label": "no", "metadata": {"name": "tone"}},
            ]
        )
    )
    return {
        "feedback_id": f"f{draw(st.integers(0, 60))}",
        "request_id": f"r{draw(st.integers(0, 30))}",
        "event_time": draw(_times),
        "user_id": draw(st.sampled_from([None, None, "", "ana", "bo", "李"])),
        "source": draw(st.sampled_from(["explicit", "explicit", "implicit", "system"])),
        **said,
    }


@st.composite
def _retractions(draw: st.DrawFn, feedback: list[dict[str, Any]]) -> dict[str, Any]:
    taken = draw(st.sampled_from(feedback))
    return {
        "feedback_id": f"t{draw(st.integers(0, 9))}",
        "request_id": taken["request_id"],
        "event_time": draw(_times),
        "kind": "retraction",
        "retracts": taken["feedback_id"],
    }


@dataclass
class Stream:
    """Checked events in the order in which they arrive, cut into batches."""

    batches: list[list[tuple[Topic, Event]]]

    @property
    def arrived(self) -> list[tuple[Topic, Event]]:
        return [event for batch in self.batches for event in batch]

    def send(self, log: EventLog) -> None:
        for batch in self.batches:
            send(log, batch)


def send(log: EventLog, batch: list[tuple[Topic, Event]]) -> None:
    """Store one batch, topic by topic in the order of the batch."""
    futures = [log.submit(topic, [event]) for topic, event in batch]
    for future in futures:
        future.result(120)


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    """Draw a stream; ids repeat, so that events come twice, and feedback finds nothing."""
    inferences = draw(st.lists(_inferences(), min_size=1, max_size=40))
    feedback = draw(st.lists(_feedback(), max_size=60))
    if feedback:
        feedback += draw(st.lists(_retractions(feedback), max_size=6))
    events: list[tuple[Topic, Event]] = [
        *(("inference", parse("inference", row)) for row in inferences),
        *(("feedback", parse("feedback", row)) for row in feedback),
    ]
    events = draw(st.permutations(events))
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=3)))
    edges = [0, *cuts, len(events)]
    return Stream([events[a:b] for a, b in pairwise(edges) if a < b])


def first_of_each(stream: Stream) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the stored events by id: of a repeated id only the first counts."""
    inference: dict[str, Any] = {}
    feedback: dict[str, Any] = {}
    for topic, event in stream.arrived:
        if topic == "inference":
            inference.setdefault(event.request_id, event)  # type: ignore[union-attr]
        else:
            feedback.setdefault(event.feedback_id, event)  # type: ignore[union-attr]
    return inference, feedback

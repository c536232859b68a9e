"""One message stops nothing: what stands in one row is refused by name, and the rest is kept."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.contract import IDS, STRUCTS, TOPICS, Topic
from tests.support.stored import empty

PATHS: dict[Topic, str] = {
    "inference": "/v1/inferences", "feedback": "/v1/feedback", "model_events": "/v1/model-events",
}  # fmt: skip
GOOD: dict[Topic, dict[str, Any]] = {
    "inference": {"model": "m", "features": {"a": 1}, "score": 0.5},
    "feedback": {"request_id": "r", "label": "yes"},
    "model_events": {"model": "m", "model_version": "1", "event": "trained"},
}


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]", inner: bytes = b"1") -> bytes:
    return opening * depth + inner + closing * depth


# JSON as somebody may send it, and what is nearly that.
TOKENS = [
    b"NaN", b"-Infinity", b"Infinity", b"1e400", b"-1e400", b"-0", b"-0.0", b"1e-400",
    b"9" * 400, b"9" * 5_000, b"-" + b"9" * 5_000, b"1714564800", b"1714564800000000",
    b"1714564800000000000", b"true", b"null", b"{}", b"[]", b'""', b'"\\ud800"', b'"\xff\xfe"',
    b'"\\u0000"', b'"a\x01b"', b'"' + b"x" * 100_001 + b'"', b'{"": 1}', b'{"a": NaN}',
    b'{"a": [NaN]}', b'{"\\ud800": 1}', b'{"\\u0000": 1}', b'{"a": 1, "a": [1]}',
    nested(51), nested(99), nested(2_000), nested(2_000, b'{"a":', b"}"), nested(30_000),
    nested(2_000, b"[[],", b"]"), nested(2_000, inner=b'"]]]]"'),
    *(
        f'"{text}"'.encode()
        for text in [
            "10000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00",
            "9999-12-31T23:59:59-05:00", "2024-05-01T24:00:00Z", "2024-06-30T23:59:60Z",
            "2024-05-01T12:00:00+99:99", "1714564800000000", "now", "-1",
        ]
    ),
]  # fmt: skip
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@st.composite
def rows(draw: st.DrawFn) -> tuple[Topic, int, bytes, bytes]:
    """A topic, a place in a batch, and what stands in some field of the row there."""
    topic = draw(st.sampled_from(TOPICS))
    name = draw(st.sampled_from([*STRUCTS[topic].__struct_fields__, "unknown", "\ud800", ""]))
    value = draw(st.sampled_from(TOKENS) | _json)
    return topic, draw(st.integers(0, 4)), json.dumps(name).encode(), value


def sent(topic: Topic, name: bytes, value: bytes, **more: Any) -> bytes:
    """A good row, of which one field is said again."""
    return json.dumps({**GOOD[topic], **more}).encode()[:-1] + b", " + name + b": " + value + b"}"


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=rows())
def test_whatever_stands_in_one_row_the_others_are_stored(
    http: httpx.Client, engine: Engine, case: tuple[Topic, int, bytes, bytes]
) -> None:
    topic, at, name, value = case
    empty(engine)
    ids = [f"good-{number}" for number in range(4)]
    batch = [json.dumps({**GOOD[topic], IDS[topic]: each}).encode() for each in ids]
    batch.insert(at, sent(topic, name, value))
    response = http.post(PATHS[topic], content=b"[" + b",".join(batch) + b"]")
    body = response.json()
    assert response.status_code == (422 if body["rejected"] else 201), response.text
    assert body["accepted"] == 5 - len(body["rejected"])
    assert [each["index"] for each in body["rejected"]] in ([], [at])
    assert all(each["allowed"] and each["message"] for each in body["rejected"])
    kept = {row["id"] for row in engine.rows(f"select {IDS[topic]} as id from events.{topic}")}
    assert kept >= set(ids) and len(kept) == body["accepted"]
    refused = engine.rows("select topic, field, reason, payload from headrace.rejected_events")
    assert len(refused) == len(body["rejected"])
    for row, told in zip(refused, body["rejected"], strict=True):
        assert (row["topic"], row["reason"]) == (topic, told["message"].replace("\x00", "\\x00"))
        assert row["payload"].startswith("{")


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("features", b'{"age": NaN}', "features.age"),
        ("score", b"NaN", "score"),
        ("score", b"nan", "score"),
        ("features", b'{"age": -inf}', "features.age"),
        ("latency_ms", b"-Infinity", "latency_ms"),
        ("propensity", b"1e999", "propensity"),
        ("input", nested(2_000), "input"),
        ("features", nested(2_000), "features"),
        ("output", nested(2_000, b'{"a":', b"}"), "output"),
        ("event_time", b"1714564800000000", "event_time"),
        ("event_time", b"9" * 5_000, "event_time"),
        ("user_id", b'"\xff"', "user_id"),
        ("user_id", b'"\\udfff"', "user_id"),
        ("segment", b'"\\u0000"', "segment"),
    ],
)
def test_one_of_a_thousand_rows_is_refused_by_its_field(
    http: httpx.Client, engine: Engine, name: str, value: bytes, field: str
) -> None:
    batch = [
        json.dumps({**GOOD["inference"], "request_id": f"r{n}"}).encode() for n in range(1_000)
    ]
    batch[617] = sent("inference", json.dumps(name).encode(), value, request_id="bad")
    body = http.post("/v1/inferences", content=b"[" + b",".join(batch) + b"]").json()
    assert body["accepted"] == 999
    assert [(each["index"], each["field"]) for each in body["rejected"]] == [(617, field)]
    (stored,) = engine.rows("select count(*) as n from events.inference")
    assert stored == {"n": 999}
    (refused,) = engine.rows("select payload from headrace.rejected_events")
    assert json.loads(refused["payload"])["request_id"] == "bad"


@pytest.mark.parametrize("content", [nested(2_000), b"NaN", b"-1e999", b'"\\ud800"', b"[[1], NaN]"])
def test_what_is_no_object_at_all_is_kept_as_refused(
    http: httpx.Client, engine: Engine, content: bytes
) -> None:
    response = http.post("/v1/feedback", content=content)
    assert response.status_code == 422
    told = response.json()["rejected"]
    assert {each["allowed"] for each in told} == {"an object"}
    assert len(engine.rows("select * from headrace.rejected_events")) == len(told)


@pytest.mark.parametrize("value", [b"NaN", nested(2_000), b"1e999", b'"\xff"'])
def test_predictions_and_policies_are_refused_by_name_too(http: httpx.Client, value: bytes) -> None:
    asked = b'[{"model": "m"}, {"model": "m", "text": ' + value + b"}]"
    answers = http.post("/v1/predict", content=asked).json()
    assert [each["error"]["type"] for each in answers] == ["not_served", "contract"]
    put = http.put("/v1/models/m/policies", content=b'{"min_sample": ' + value + b"}")
    assert (put.status_code, put.json()["error"]["field"]) == (422, "min_sample")
    assert http.get("/healthz").status_code == 200

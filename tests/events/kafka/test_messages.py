"""A message as a row: whatever it holds, and whatever its clock says."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord

from headrace.events.contract import TOPICS
from headrace.events.kafka.messages import row_of
from headrace.events.rows import REJECTED, EventRow

CREATE_TIME, LOG_APPEND_TIME = 0, 1
HOUR_MS = 3_600_000


def record(
    value: bytes | None, timestamp_ms: int = -1, kind: int = CREATE_TIME, offset: int = 7
) -> ConsumerRecord:
    return ConsumerRecord("t", 3, 0, offset, timestamp_ms, kind, b"k", value, [], None, 1, 1, -1)


def inference(event_time: datetime | None = None, **fields: Any) -> bytes:
    if event_time:
        fields["event_time"] = event_time.isoformat()
    return json.dumps({"model": "m", **fields}).encode()


def refused(row: EventRow) -> str:
    return str(row.values[1]) if row.topic == REJECTED else ""


_deep = st.integers(1, 100_000).map(lambda n: b'{"model": "m", "input": ' + b"[" * n + b"]" * n)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    topic=st.sampled_from([*TOPICS, REJECTED]),
    value=st.none() | st.binary() | _deep | _json.map(lambda each: json.dumps(each).encode()),
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
    kind=st.sampled_from([CREATE_TIME, LOG_APPEND_TIME]),
)
def test_any_message_is_a_row(
    topic: str, value: bytes | None, timestamp_ms: int, kind: int
) -> None:
    row = row_of(topic, record(value, timestamp_ms, kind))
    assert row.topic in (topic, REJECTED)


@pytest.mark.parametrize("step", ["parse", "event_row", "filled_fields"])
def test_whatever_a_message_makes_fail_is_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(f"headrace.events.kafka.messages.{step}", fail)
    row = row_of("inference", record(inference(), 0))
    topic, field, reason, payload, origin = row.values
    assert (topic, field, origin) == ("inference", "", "t/3/7")
    assert "RecursionError" in reason
    assert '\\"model\\"' in payload


@pytest.mark.parametrize("sent_ms", [-1, 0, HOUR_MS, 1_700_000_000_000, 4_102_444_800_000])
def test_the_time_of_a_message_refuses_no_event(sent_ms: int) -> None:
    """The start of a window, no time, the year 2100: what an event says of itself is judged."""
    row = row_of("inference", record(inference(datetime.now(UTC)), sent_ms))
    assert row.topic == "inference"
    far = datetime(2100, 1, 1, tzinfo=UTC)
    assert refused(row_of("inference", record(inference(far), sent_ms))) == "event_time"


def test_a_message_from_the_future_without_a_time_is_refused() -> None:
    assert refused(row_of("inference", record(inference(), 4_102_444_800_000))) == "event_time"


def test_the_brokers_clock_bounds_what_they_stamped() -> None:
    """So that reading it again later refuses it again."""
    an_hour_ago = int(time.time() * 1000) - HOUR_MS
    value = inference(datetime.now(UTC))
    assert refused(row_of("inference", record(value, an_hour_ago, LOG_APPEND_TIME))) == "event_time"
    ahead = int(time.time() * 1000) + HOUR_MS
    value = inference(datetime.fromtimestamp(ahead / 1000, UTC))
    assert refused(row_of("inference", record(value, ahead, LOG_APPEND_TIME))) == "event_time"


def test_a_name_made_from_a_place_has_the_id_of_its_topic() -> None:
    def name(value: bytes, offset: int, *place: Any) -> Any:
        row = row_of("inference", record(value, 0, offset=offset), *place)
        return row.values[-1] if row.topic == REJECTED else row.id

    for value in (inference(), b"no JSON"):
        assert name(value, 7) == "t/3/7"
        assert name(value, 7, "an-id") == "t/3/7/an-id"
        assert name(value, 7, "an-id", 8) == "t/3/7"
        assert name(value, 8, "an-id", 8) == "t/3/8/an-id"
    assert name(inference(request_id="said"), 7, "an-id") == "said"

"""The contract: whatever comes in is an event or a ContractError that says what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ContractError
from headrace.events.contract import (
    IDS,
    TOPICS,
    Feedback,
    Inference,
    Topic,
    input_text,
    parse,
    uuid7,
)
from tests.support.payloads import json_values, payloads

PREFERRED = {"request_id": "r", "kind": "preference", "rejected_request_id": "s"}
PROMOTED = {"model": "m", "model_version": "1", "event": "promoted"}


@given(topic=st.sampled_from(TOPICS), payload=json_values)
def test_any_json_is_an_event_or_a_contract_error(topic: Topic, payload: object) -> None:
    try:
        parse(topic, payload)
    except ContractError as error:
        assert str(error)


@given(payloads())
def test_an_accepted_event_is_whole_and_accepted_again(case: tuple[Topic, dict[str, Any]]) -> None:
    topic, payload = case
    try:
        event = parse(topic, payload)
    except ContractError as error:
        assert error.allowed
        return
    assert getattr(event, IDS[topic])
    assert event.event_time is not None and event.event_time.tzinfo is UTC
    assert parse(topic, msgspec.to_builtins(event)) == event


@pytest.mark.parametrize(
    ("topic", "payload", "field"),
    [
        ("inference", 3, ""),
        ("inference", {}, "model"),
        ("inference", {"model": ""}, "model"),
        ("inference", {"model": "m", "colour": 1}, "colour"),
        ("inference", {"model": "m", "score": 1.5}, "score"),
        ("inference", {"model": "m", "score": "high"}, "score"),
        ("inference", {"model": "m", "score": float("nan")}, "score"),
        ("inference", {"model": "m", "propensity": 0}, "propensity"),
        ("inference", {"model": "m", "target_propensity": 1.1}, "target_propensity"),
        ("inference", {"model": "m", "position": 0}, "position"),
        ("inference", {"model": "m", "position": 1.5}, "position"),
        ("inference", {"model": "m", "latency_ms": -1}, "latency_ms"),
        ("inference", {"model": "m", "variant": "best"}, "variant"),
        (
            "inference",
            {"latency_ms": -1, "score": 2, "error": "x" * 100_001, "model": "m"},
            "score",
        ),
        (
            "inference",
            {"input": "a\nb", "error": "a\x00", "user_id": "a\x00", "model": "m"},
            "user_id",
        ),
        ("inference", {"model": "m", "features": [1]}, "features"),
        ("inference", {"model": "m", "features": {"age": [1]}}, "features.age"),
        ("inference", {"model": "m", "features": {"age": float("inf")}}, "features.age"),
        ("inference", {"model": "m", "user_id": "a\x00b"}, "user_id"),
        ("inference", {"model": "m", "input": {"deep": "\ud800"}}, "input.deep"),
        ("inference", {"model": "m" * 513}, "model"),
        ("inference", {"model": "日" * 171}, "model"),
        ("inference", {"model": "m", "prediction": "日" * 171}, "prediction"),
        ("inference", {"model": "m", "features": {"n" * 257: 1}}, "features"),
        ("inference", {"model": "m", "error": "x" * 100_001}, "error"),
        ("feedback", {"request_id": "r" * 513, "label": "yes"}, "request_id"),
        ("inference", {"model": "m", "event_time": "yesterday"}, "event_time"),
        ("inference", {"model": "m", "event_time": "1969-01-01T00:00:00Z"}, "event_time"),
        ("inference", {"model": "m", "event_time": "2999-01-01T00:00:00Z"}, "event_time"),
        ("feedback", {"label": "yes"}, "request_id"),
        ("feedback", {"request_id": "r"}, "label"),
        ("feedback", {"request_id": "r", "kind": "shrug"}, "kind"),
        ("feedback", {"request_id": "r", "kind": "preference"}, "rejected_request_id"),
        ("feedback", {"request_id": "r", "label": ""}, "label"),
        ("feedback", {"request_id": "r", "label": " \t", "value": 1}, "label"),
        ("feedback", {"request_id": "r", "kind": "report", "label": "yes"}, "label"),
        ("feedback", {"request_id": "r", "kind": "comment", "label": 0}, "label"),
        ("feedback", {"request_id": "r", "kind": "comment", "value": 0}, "value"),
        ("feedback", {**PREFERRED, "label": "yes"}, "label"),
        ("feedback", {**PREFERRED, "kind": "label", "label": "yes"}, "rejected_request_id"),
        ("inference", {"model": "m", "probabilities": [1]}, "probabilities"),
        ("inference", {"model": "m", "probabilities": {"a": 1.1}}, "probabilities"),
        ("inference", {"model": "m", "probabilities": {"a": float("nan")}}, "probabilities"),
        ("inference", {"model": "m", "probabilities": {"a": True}}, "probabilities"),
        ("inference", {"model": "m", "probabilities": {"": 1}}, "probabilities"),
        ("inference", {"model": "m", "feature_ages": [1]}, "feature_ages"),
        ("inference", {"model": "m", "feature_ages": {"v": True}}, "feature_ages"),
        ("inference", {"model": "m", "feature_ages": {"v": float("inf")}}, "feature_ages"),
        ("inference", {"model": "m", "feature_ages": {"v" * 257: 1}}, "feature_ages"),
        ("model_events", {**PROMOTED, "traffic": 0.5}, "traffic"),
        ("feedback", {"request_id": "r", "kind": "retraction"}, "retracts"),
        ("feedback", {"request_id": "r", "label": "yes", "retracts": "f"}, "retracts"),
        ("model_events", {"model": "m", "event": "trained"}, "model_version"),
        ("model_events", {"model": "m", "model_version": "1", "event": "sold"}, "event"),
        ("model_events", {"model": "m", "model_version": "1"}, "event"),
    ],
)
def test_what_breaks_the_contract_names_the_field(
    topic: Topic, payload: object, field: str
) -> None:
    with pytest.raises(ContractError) as caught:
        parse(topic, payload)
    assert caught.value.field == field
    assert caught.value.allowed in str(caught.value)


def test_a_name_is_as_long_as_its_bytes() -> None:
    for name in ("m" * 512, "é" * 256, "日" * 170, "😀" * 128):
        assert parse("inference", {"model": name, "prediction": name})
    with pytest.raises(ContractError) as caught:
        parse("inference", {"model": "日" * 171})
    assert str(caught.value) == "model: must be at most 512 bytes in UTF-8, got '513 bytes'"


def test_deep_nesting_is_refused_with_one_line() -> None:
    value: Any = 1
    for _ in range(900):
        value = [value]
    with pytest.raises(ContractError):
        parse("inference", {"model": "m", "input": value})
    with pytest.raises(ContractError):
        parse("inference", value)


def test_a_huge_whole_number_is_refused() -> None:
    with pytest.raises(ContractError):
        parse("inference", {"model": "m", "features": {"big": 10**5_000}})


def test_what_is_missing_is_filled_in() -> None:
    now = datetime(2024, 5, 1, tzinfo=UTC)
    event = parse("inference", {"model": "m", "prediction": 3.0, "segment": None}, now=now)
    assert isinstance(event, Inference)
    assert event.event_time == now
    assert event.prediction == "3"
    assert event.variant == "champion"


@pytest.mark.parametrize(
    ("said", "kept"),
    [(" yes ", "yes"), ("True", "1"), (False, "0"), ("1.0", "1"), (" ", None), ("", None)],
)
def test_a_prediction_is_one_text_or_missing(said: str | bool, kept: str | None) -> None:
    event = parse("inference", {"model": "m", "prediction": said, "probabilities": {"a": 1}})
    assert isinstance(event, Inference)
    assert (event.prediction, event.probabilities) == (kept, {"a": 1.0})


def test_a_time_without_an_offset_is_utc_and_others_are_converted() -> None:
    def at(text: str) -> datetime | None:
        return parse("inference", {"model": "m", "event_time": text}).event_time

    assert at("2024-05-01T12:00:00") == datetime(2024, 5, 1, 12, tzinfo=UTC)
    assert at("2024-05-01T12:00:00+02:00") == datetime(2024, 5, 1, 10, tzinfo=UTC)


def test_a_clock_five_minutes_fast_is_tolerated() -> None:
    now = datetime.now(UTC)
    early = (now + timedelta(minutes=4)).isoformat()
    assert parse("inference", {"model": "m", "event_time": early}, now=now).event_time


def test_a_click_needs_no_value_and_true_is_one() -> None:
    click = parse("feedback", {"request_id": "r", "kind": "click"})
    thumb = parse("feedback", {"request_id": "r", "kind": "thumbs", "value": True})
    assert isinstance(click, Feedback) and click.value == 1.0
    assert isinstance(thumb, Feedback) and thumb.value == 1.0


def test_ids_are_ordered_by_time_and_unique() -> None:
    ids = [uuid7() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)
    assert {one[14] for one in ids} == {"7"}


def test_the_text_of_an_input_is_its_strings() -> None:
    assert input_text("abc") == "abc"
    assert input_text({"title": "a", "n": 3, "parts": ["b", {"c": "d"}]}) == "a\nb\nd"
    assert input_text(None) == input_text(7) == ""


@pytest.mark.parametrize("name", ["request_id", "prediction", "event_time"])
def test_an_event_is_not_changed_after_its_check(name: str) -> None:
    event = parse("inference", {"model": "m"})
    with pytest.raises(AttributeError, match="immutable"):
        setattr(event, name, None)

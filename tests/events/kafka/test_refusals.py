"""What a broker refuses takes nothing else with it: every other event is there once, in order."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.events.contract import parse
from headrace.events.kafka.producer import KafkaWriter
from headrace.events.rows import ACCEPTED, EventRow, Receipt, event_row, json_text, rejected_row
from headrace.settings import Settings
from tests.support.brokers import make_topics
from tests.support.gateways import running_gateway
from tests.support.strict_brokers import (
    INVALID,
    LIMIT,
    NOT_AUTHORIZED,
    RealBroker,
    StrictBroker,
    messages,
)


@pytest.fixture(scope="module")
def broker() -> Iterator[RealBroker | StrictBroker]:
    given = os.environ.get("HEADRACE_TEST_KAFKA")
    started = RealBroker(given) if given else StrictBroker()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def strict(broker: RealBroker | StrictBroker) -> StrictBroker:
    """Brokers whose answers a test can choose."""
    if isinstance(broker, RealBroker):
        pytest.skip("real brokers have no such plug-in, and answer as they like")
    return broker


def settings_of(broker: RealBroker | StrictBroker) -> Settings:
    prefix = f"t{uuid4().hex[:8]}."
    return Settings(kafka=broker.address, kafka_prefix=prefix, kafka_partitions=2)


@pytest.fixture
def writer(broker: RealBroker | StrictBroker) -> Iterator[KafkaWriter]:
    """A writer to topics that no other test uses."""
    opened = KafkaWriter(settings_of(broker))
    make_topics(opened._settings)
    yield opened
    opened.close()


def payload(name: str, size: int = 0) -> dict[str, Any]:
    texts = {str(at): "x" * min(100_000, size - at) for at in range(0, size, 100_000)}
    return {"model": "m", "request_id": name, "input": texts}


def row(name: str, size: int = 0) -> EventRow:
    return event_row("inference", parse("inference", payload(name, size)))


def held(writer: KafkaWriter, topic: str = "inference") -> list[dict[str, Any]]:
    return [each for each, _ in messages(writer._settings.kafka, name(writer, topic))]


def name(writer: KafkaWriter, topic: str = "inference") -> str:
    return writer._settings.kafka_prefix + topic


def receipts(rows: Sequence[EventRow]) -> list[Receipt | None]:
    return [each.receipt for each in rows]


def test_an_event_over_the_limit_is_refused_alone(writer: KafkaWriter) -> None:
    rows = [row("r-0"), row("large", 1_200_000), row("r-1"), row("r-2")]
    writer.write(rows)
    refused = rows.pop(1).receipt
    assert refused is not None and refused.status == "rejected"
    assert "1,200" in refused.reason and f"{LIMIT:,}" in refused.reason
    assert receipts(rows) == [ACCEPTED] * 3
    assert sorted(each["request_id"] for each in held(writer)) == ["r-0", "r-1", "r-2"]
    (letter,) = held(writer, "rejected")
    assert letter["topic"] == "inference" and f"{LIMIT:,}" in letter["reason"]
    assert letter["payload"].startswith('{"model":"m","model_version":"unversioned"')


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_counts_the_key_and_what_is_around_a_message(
    writer: KafkaWriter, broker: RealBroker | StrictBroker, over: int
) -> None:
    """To the byte: the broker takes the one, and is not asked about the other."""
    event = row("r" * 300, 5_000)
    broker.limit(name(writer), writer._message(event, timed=True).size - over)
    writer.write([event])
    assert (event.receipt == ACCEPTED) == (over == 0)
    assert len(held(writer)) == 1 - over


def test_limits_may_change_meanwhile(
    writer: KafkaWriter, broker: RealBroker | StrictBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write([row("first", 20_000)])
    broker.limit(name(writer), 12_000)
    alone = row("alone", 20_000)
    writer.write([alone])
    assert "12,000" in str(alone.receipt)
    broker.limit(name(writer), 10_000)
    rows = [row("r-0"), row("large", 11_000), row("r-1"), row("r-2", 9_000), row("r-3", 9_000)]
    writer.write(rows)
    assert "10,000" in str(rows.pop(1).receipt)
    assert receipts(rows) == [ACCEPTED] * 4
    broker.limit(name(writer), 30_000)
    monkeypatch.setattr("headrace.events.kafka.producer.LIMITS_AGE_S", 0.0)
    last = row("last", 20_000)
    writer.write([last])
    assert last.receipt == ACCEPTED
    names = ["first", "last", "r-0", "r-1", "r-2", "r-3"]
    assert sorted(each["request_id"] for each in held(writer)) == names


def test_a_limit_that_nobody_may_read_is_found_out(
    writer: KafkaWriter, strict: StrictBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are refused until they are small enough, and one event for good."""
    monkeypatch.setattr(strict, "hidden", True)
    strict.limit(name(writer), 3_000)
    rows = [row(f"r-{number}", 500) for number in range(20)]
    large = row("large", 5_000)
    writer.write([*rows[:10], large, *rows[10:]])
    assert "MessageSizeTooLargeError" in str(large.receipt)
    assert receipts(rows) == [ACCEPTED] * 20
    assert sorted(each["request_id"] for each in held(writer)) == sorted(r.id for r in rows)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=12))
@examples(max_examples=10, deadline=None, database=None)
def test_only_what_fails_alone_is_refused(
    strict: StrictBroker, sent: list[tuple[int, bool, bool]]
) -> None:
    """Whatever a plug-in refuses, or for its time: others once, in the order of their key."""
    writer = KafkaWriter(settings_of(strict))
    ahead = datetime.now(UTC) + timedelta(hours=2)
    rows, invalid = [], []
    for number, (key, broken, early) in enumerate(sent):
        label = INVALID.decode() if broken else "fine"
        said = {"request_id": f"r-{key}", "feedback_id": str(number), "label": label}
        event = parse("feedback", said, now=ahead if early else None)
        rows.append(event_row("feedback", event, filled=["event_time"]))
        invalid.append(broken)
    try:
        writer.write(rows)
        kept = [each for each, _ in messages(strict.address, name(writer, "feedback"))]
    finally:
        writer.close()
    assert [receipt != ACCEPTED for receipt in receipts(rows)] == invalid
    for key in range(3):
        of_key = [str(at) for at, (k, broken, _) in enumerate(sent) if k == key and not broken]
        assert [e["feedback_id"] for e in kept if e["request_id"] == f"r-{key}"] == of_key


def test_a_time_that_the_broker_refuses_goes_into_the_message(writer: KafkaWriter) -> None:
    """A clock that is two hours ahead loses no event, nor the time of any."""
    ahead = datetime.now(UTC) + timedelta(hours=2)
    rows = []
    for number in range(10):
        event = parse("inference", payload(f"r-{number}"), now=ahead)
        rows.append(event_row("inference", event, filled=["event_time"]))
    writer.write(rows)
    assert receipts(rows) == [ACCEPTED] * 10
    found = messages(writer._settings.kafka, name(writer))
    assert {datetime.fromisoformat(each["event_time"]) for each, _ in found} == {ahead}
    assert len(found) == 10 and {at for _, at in found} == {-1}
    later = row("later")
    writer.write([later])
    assert later.receipt == ACCEPTED and len(held(writer)) == 11


def test_a_lost_acknowledgement_repeats_what_it_was_of(
    writer: KafkaWriter, strict: StrictBroker
) -> None:
    writer.write([row("first")])
    strict.lost = 1
    rows = [row(f"r-{number}") for number in range(20)]
    writer.write(rows)
    writer.write([row("last")])
    assert receipts(rows) == [ACCEPTED] * 20
    found = [each["request_id"] for each in held(writer)]
    assert found.count("first") == found.count("last") == 1
    assert all(found.count(each.id) == 2 for each in rows) and len(found) == 42


def test_a_topic_is_not_made_by_looking_at_it(writer: KafkaWriter) -> None:
    """One that was deleted comes back with our settings, not with the brokers' defaults."""
    writer.write([row("r-0")])
    request = writer._connect()._metadata.metadata_request()
    assert not request.allow_auto_topic_creation


def test_a_rejected_payload_is_cut_to_what_the_broker_takes(
    writer: KafkaWriter, broker: RealBroker | StrictBroker
) -> None:
    broker.limit(name(writer, "rejected"), 20_000)
    error = ContractError("é" * 50_000, "short", "long")
    large = rejected_row("inference", error.field, str(error), json_text({"a": "é\n" * 50_000}))
    small = rejected_row("inference", "a", "b", "{}")
    writer.write([large, small])
    assert receipts([large, small]) == [ACCEPTED] * 2
    letters = {each["payload"][:5]: each for each in held(writer, "rejected")}
    assert letters.keys() == {"{}", '{"a":'}
    cut = letters['{"a":']
    assert f"{len(cut['payload']):,} of {len(large.values[3]):,} characters" in cut["reason"]
    assert cut["field"] == "é" * 1_000


def test_a_rejected_payload_that_cannot_be_cut_stops_nothing(
    writer: KafkaWriter, broker: RealBroker | StrictBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.limit(name(writer, "rejected"), 100)
    rows = [rejected_row("inference", "a", "b", "{}"), row("r-0")]
    writer.write(rows)
    assert rows[1].receipt == ACCEPTED
    assert "could not be stored" in caplog.text and "100" in caplog.text


def test_what_is_wrong_with_the_brokers_refuses_no_event(
    engine: Engine, strict: StrictBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again and said; the health of a gateway has the reason."""
    settings = settings_of(strict)
    engine.settings = replace(
        engine.settings, kafka=settings.kafka, kafka_prefix=settings.kafka_prefix
    )
    monkeypatch.setattr("headrace.gateway.app.STUCK_S", 0.0)
    strict.refuse_all = NOT_AUTHORIZED
    with running_gateway(engine, engine.settings) as url, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{url}/v1/inferences", json=payload("r-0"), timeout=60)
        while "TopicAuthorizationFailed" not in httpx.get(f"{url}/healthz").text:
            time.sleep(0.02)
        assert not answer.done()
        strict.refuse_all = 0
        assert answer.result().status_code == 201
    assert len(messages(strict.address, f"{settings.kafka_prefix}inference")) == 1


def test_the_sender_is_told_of_the_one_event_and_the_limit(
    engine: Engine, broker: RealBroker | StrictBroker
) -> None:
    settings = settings_of(broker)
    engine.settings = replace(
        engine.settings, kafka=settings.kafka, kafka_prefix=settings.kafka_prefix
    )
    sent = [payload("r-0"), payload("large", 1_200_000), payload("r-1")]
    with running_gateway(engine, engine.settings) as url, httpx.Client(base_url=url) as http:
        answer = http.post("/v1/inferences", json=sent, timeout=60)
        assert answer.status_code == 422
        body = answer.json()
        assert (body["accepted"], body["ids"]) == (2, ["r-0", None, "r-1"])
        (refused,) = body["rejected"]
        assert refused["index"] == 1 and f"{LIMIT:,}" in refused["message"]
        assert http.post("/v1/inferences", json=payload("r-2")).status_code == 201
        assert http.get("/healthz").json()["status"] == "ok"
    assert len(messages(broker.address, f"{settings.kafka_prefix}inference")) == 3

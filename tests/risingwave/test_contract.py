"""The contract in SQL says what headrace.events.contract says, message by message."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from headrace.events.contract import IDS, TOPICS, Topic
from headrace.events.kafka.messages import row_of
from headrace.events.rows import COLUMNS, REJECTED
from tests.support.risingwave_sql_standin import PREFIX, Message
from tests.support.standin_database import StandIn

SENT = datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
JSON = ("features", "input", "output", "metadata", "metrics")
VALID: dict[str, dict[str, Any]] = {
    "inference": {
        "model": "m", "model_version": "v1", "request_id": "r", "variant": "champion",
        "event_time": "2026-05-01T11:00:00Z", "features": {"age": 31, "vip": True, "x": None},
        "endpoint": "e", "segment": "s", "user_id": "u", "session_id": "n", "item_id": "i",
        "input": {"text": "hi"}, "output": [1, "two"], "prediction": "yes", "score": 0.25,
        "propensity": 0.5, "latency_ms": 12.5, "error": None,
    },
    "feedback": {
        "feedback_id": "f", "request_id": "r", "event_time": "2026-05-01T11:00:00+02:00",
        "kind": "label", "label": "yes", "value": 2, "source": "human", "user_id": "u",
        "metadata": {"a": [1, {"b": None}]},
    },
    "model_events": {
        "event_id": "e", "model": "m", "model_version": "v", "event": "canary", "traffic": 0.1,
        "event_time": "2026-05-01 11:00:00.123", "run_id": "r", "trigger_id": "t",
        "dataset_id": "d", "parent_version": "p", "artifact_uri": "a", "metrics": {"auc": 0.9},
        "reason": "why",
    },
}  # fmt: skip
DROP = object()
# What may stand in any field; the contract says which of them do.
STRANGE: list[Any] = [
    DROP, None, "", "x", "0", "true", 0, 1, -1, 0.0, -0.0, 0.5, 1.0, 1.5, 3, 1e-7, 1e300, 1.1e300,
    -1.1e300, 2**40, True, False, [], {}, [1], {"a": 1}, {"a": {"b": 1}}, {"": 1}, {"a": [1]},
    "x" * 512, "x" * 513, "𠀀" * 128, "𠀀" * 128 + "x", "ü✓ 日本", 'quo"te\\',
    "2026-05-01T11:00:00Z",
]  # fmt: skip
TIMES = [
    "2026-05-01T12:00:00Z", "2026-05-01t12:00:00z", "2026-05-01 12:00:00", "2026-05-01_12:00:00",
    "2026-05-01T12:00", "2026-05-01", "2026-05-01T12:00:00.5", "2026-05-01T12:00:00.123456Z",
    "2026-05-01T12:00:00.", "2026-05-01T12:00:00,5", "2026-05-01T12:00:00.1234561Z",
    "2026-05-01T12:00:00+02:00", "2026-05-01T12:00:00+0200", "2026-05-01T12:00:00-12:30",
    "2026-05-01T12:00:00+02", "2026-05-01T12:00:00 +02:00", "2026-05-01T12:00:00-00:00",
    "2026-05-01T12:00:00+24:00", "2026-05-01T12:00:00+12:60", "2026-05-01T24:00:00",
    "2026-05-01T11:59:60", "2026-02-30T00:00:00", "2024-02-29T00:00:00Z", "0000-01-01T00:00:00",
    "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:00Z", "1970-01-01T00:00:00+01:00", "20260501T120000Z",
    " 2026-05-01T12:00:00Z", "2026-05-01T12:00:00Z ", "2026-5-1T12:00:00Z", "now", "infinity",
    "2026-05-01T12:05:00.25Z", "2026-05-01T12:05:00.250001Z", "2026-05-01T12:04:59.9Z",
    "٢026-05-01T12:00:00Z", "2026-05-01T12:00:001Z",
]  # fmt: skip
BYTES: list[bytes | None] = [
    None, b"", b" ", b"null", b"1", b'"x"', b"[]", b"{}", b"{", b"nonsense", b"\xff\xfe", b"NaN",
    b'{"a": 1,}', b'{"a": NaN}', b'{"model": 1e400}', b"\xef\xbb\xbf{}", b'{"a": "\\ud800"}',
    b'{"a": "\x01"}', b'{"model": "a\\u0000b"}', b'{"model": "a\\\\u0000b"}', b'"\\u0000"',
    b'{"model": "m", "features": {"a": "\\\\\\u0000"}}', b'{"a": 01}', b"\n{ }\t", b'{"a":1}{}',
    b'{"model": "m", "model": "n", "request_id": "r"}', b'{"model": "\\ud83d\\ude00"}',
    b'{"model": "m", "score": -Infinity}', b'{"request_id": "r", "value": ' + b"9" * 5_000 + b"}",
]  # fmt: skip
MANY: list[tuple[str, dict[str, Any]]] = [
    ("inference", {"features": {f"f{i}": i for i in range(1000)}}),
    ("inference", {"features": {f"f{i}": i for i in range(1001)}}),
    ("inference", {"features": {"n" * 256: 1}}),
    ("inference", {"features": {"n" * 257: 1}}),
    ("inference", {"features": {"𠀀" * 256: 1}}),
    ("inference", {"features": {"𠀀" * 257: 1}}),
    ("inference", {"features": {"n\n" * 129: 1}}),
    ("inference", {"features": {'q"u.o': [1]}}),
    ("inference", {"features": {"a": 1, "ä ✓": -2e300}}),
    ("inference", {"features": {"a": 1e300, "b": None, "c": "1e301", "d": True}}),
    ("inference", {"error": "x" * 100_000}),
    ("inference", {"error": "x" * 100_001}),
    ("inference", {"input": "x" * 100_000}),
    ("inference", {"input": "x" * 100_001}),
    ("inference", {"output": "x" * 100_001}),
    ("model_events", {"reason": "x" * 100_001}),
    ("model_events", {"artifact_uri": "x" * 2_000}),
    ("model_events", {"artifact_uri": "x" * 2_001}),
    ("model_events", {"trigger_id": "x" * 1_024}),
    ("model_events", {"trigger_id": "x" * 1_025}),
    ("inference", {"shadow_of": "r0"}),
    ("inference", {"shadow_of": "r0", "variant": "shadow"}),
    ("inference", {"shadow_of": "", "variant": None}),
    ("inference", {"modle": "typo"}),
    ("inference", {'quo"te\\': 1}),
    ("inference", {"": 1}),
    *(
        ("feedback", {"kind": kind, "label": label, "value": value, "rejected_request_id": lost})
        for kind in [
            "rating", "thumbs", "click", "dwell", "purchase", "conversion", "correction", "label",
            "preference", "report", "comment", "like",
        ]
        for label in (None, "", "no", 0, False)
        for value in (None, 0, True)
        for lost in (None, "", "r0")
    ),
    *(
        (topic, {name: value})
        for topic, name in [("inference", "prediction"), ("feedback", "label")]
        for value in [
            3.0, 3, -7, 0.1, 100.5, 999999999999999.0, 1e14, 123456.789, "3.0", -0.0, 1e15, -1e15,
            1e16, 1e17, 1e18, 9e18, 1e19, 1.5e20, 1e300, 1000000000000000.5, 0.0001, 0.00001,
            -0.000012345, 0.0000099, 1e-6, 1.25e-7, 1e-300, 5e-324, 10**15, 2**53 + 1, 10**18,
            2**63 - 1, -(2**63), 2**63, 2**64, -(2**63) - 1, 12345678901234567890123,
        ]
    ),
    *(("model_events", {"event": event}) for event in ["trained", "rolled_back", "born", ""]),
]  # fmt: skip


_ids = itertools.count()


def said(topic: str, changed: dict[str, Any]) -> bytes:
    """A message of its own id, unless that is what is changed."""
    payload = {**VALID[topic], IDS[cast(Topic, topic)]: f"id{next(_ids)}", **changed}
    return json.dumps({k: v for k, v in payload.items() if v is not DROP}).encode()


def changes() -> Iterator[tuple[str, bytes | None]]:
    """Messages that differ from a good one in one place, and some that are none."""
    for topic in TOPICS:
        yield topic, said(topic, {})
        yield topic, said(topic, dict.fromkeys(VALID[topic], DROP))
        for name in COLUMNS[topic]:
            for value in STRANGE:
                yield topic, said(topic, {name: value})
        for time in TIMES:
            yield topic, said(topic, {"event_time": time})
        for sent in BYTES:
            yield topic, sent
    for name, changed in MANY:
        yield name, said(name, changed)
    letter = {"topic": "feedback", "field": "label", "reason": "why", "payload": "{}"}
    yield REJECTED, json.dumps(letter).encode()
    for name in letter:
        for value in (DROP, None, 1, "", "x", {}, "a\x00b"):
            spoilt = {**letter, name: value}
            text = json.dumps({k: v for k, v in spoilt.items() if v is not DROP})
            yield REJECTED, text.encode()
    yield REJECTED, json.dumps({**letter, "more": 1}).encode()
    for sent in BYTES:
        yield REJECTED, sent


_offset = iter(range(10**9))


def check(stand_in: StandIn, sent: list[tuple[str, bytes | None]], *, exactly: bool = True) -> None:
    """Let messages come in and compare what became of each with the consumer in Python."""
    connection = stand_in.connection
    connection.execute(
        "truncate events.inference, events.feedback, events.model_events, events.rejected, "
        "events.inference_messages, events.feedback_messages, events.model_events_messages, "
        "events.rejected_messages"
    )
    moment = round(SENT.timestamp() * 1000)
    messages = [Message(PREFIX + topic, 3, next(_offset), moment, value) for topic, value in sent]
    stand_in.receive(messages)
    with connection.cursor(row_factory=dict_row) as cursor:
        stored = {
            topic: cursor.execute(f"select * from events.{topic}".encode()).fetchall()
            for topic in (*TOPICS, REJECTED)
        }
    assert disagreements(messages, stored, exactly=exactly) == []


def disagreements(
    messages: list[Message], stored: dict[str, list[dict[str, Any]]], *, exactly: bool = True
) -> list[str]:
    """Return what the tables say of messages otherwise than the consumer in Python.

    The messages are those of one partition in their order; `exactly` asks for the name of the very
    feature, of which there may be several in a message.
    """
    refused = {row["origin"]: row for row in stored[REJECTED]}
    accepted: dict[tuple[str, str], dict[str, Any]] = {
        (topic, row[IDS[topic]]): row for topic in TOPICS for row in stored[topic]
    }
    seen: set[tuple[str, str]] = set()
    found = []
    for message in messages:
        topic = message.topic.removeprefix(PREFIX)
        expected = row_of(topic, cast(Any, message))
        wanted = dict(zip(COLUMNS[expected.topic], expected.values, strict=True))
        said = f"{topic}: {(message.value or b'')[:300]!r}"
        row = refused.pop(str(expected.origin), None)
        if expected.topic == REJECTED:
            found += [f"{said}: {text}" for text in refusals(message, wanted, row, exactly)]
        elif row is not None:
            found.append(f"{said}: refused: {row}")
        elif (key := (topic, expected.id)) not in seen:
            seen.add(key)
            found += [
                f"{said}: {name} is {accepted.get(key, {}).get(name)!r}, not {value!r}"
                for name, value in wanted.items()
                if key not in accepted or not equal(name, accepted[key][name], value)
            ]
    found += [f"{origin}: refused for nothing" for origin in refused]
    return found + [f"{key}: accepted for nothing" for key in accepted.keys() - seen]


def refusals(
    message: Message, wanted: dict[str, Any], row: dict[str, Any] | None, exactly: bool
) -> Iterator[str]:
    if row is None:
        yield f"accepted, but {wanted['reason']}"
        return
    # SQL does not say where a NUL is.
    has_nul = b"\\u0000" in (message.value or b"").replace(b"\\\\", b"")
    field = "" if has_nul else wanted["field"]
    depth = None if exactly else 1
    if row["field"].split(".")[:depth] != field.split(".")[:depth]:
        yield f"{row['field']} is wrong, not {field}: {wanted['reason']}"
    if row["topic"] != wanted["topic"]:
        yield f"of {row['topic']}, not {wanted['topic']}"
    if message.topic == PREFIX + REJECTED and wanted["topic"] != REJECTED:
        if (row["reason"], row["payload"]) != (wanted["reason"], wanted["payload"]):
            yield f"not the letter: {row}"
    elif not row["reason"].startswith(f"{row['field'] or 'event'}: must be "):
        yield f"reason: {row['reason']}"
    else:
        json.loads(row["payload"])


def equal(name: str, actual: Any, wanted: Any) -> bool:
    if name in JSON and wanted is not None:
        return bool(numbers(actual) == numbers(json.loads(wanted[1:])))
    return bool(actual == wanted)


def numbers(value: Any) -> Any:
    """The value with its numbers as doubles, which PostgreSQL's JSON does not need to be."""
    if isinstance(value, dict):
        return {name: numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_one_change_at_a_time(stand_in: StandIn) -> None:
    check(stand_in, list(changes()))


_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=5),
        st.floats(-1e15, 1e15),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip


@st.composite
def _sent(draw: st.DrawFn) -> tuple[str, bytes]:
    topic = draw(st.sampled_from(TOPICS))
    names = st.sampled_from([*COLUMNS[topic], "unknown"])
    name = draw(names)
    value = draw(st.one_of(st.sampled_from([v for v in STRANGE if v is not DROP]), _values))
    return topic, said(topic, {name: value})


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sent=st.lists(_sent(), min_size=1, max_size=40))
def test_any_value_anywhere(stand_in: StandIn, sent: list[tuple[str, bytes]]) -> None:
    check(stand_in, list(sent), exactly=False)


def test_the_time_of_a_message_is_its_senders_word(stand_in: StandIn) -> None:
    """It may lie in the future, in microseconds, or be missing."""
    now = round(datetime.now(UTC).timestamp() * 1000)
    ahead = datetime.now(UTC) + timedelta(hours=1)
    times = [DROP, "2026-05-01T11:00:00Z", ahead.isoformat(), 1714564800000000]
    sent = [
        (topic, said(topic, {"event_time": time}), moment)
        for topic in TOPICS
        for time in times
        for moment in (-1, 0, now, now + 60_000, now + 3_600_000, now * 1000)
        if (time, moment) != (DROP, -1)
    ]
    check(stand_in, [])
    messages = [Message(PREFIX + topic, 3, next(_offset), at, value) for topic, value, at in sent]
    stand_in.receive(messages)
    with stand_in.connection.cursor(row_factory=dict_row) as cursor:
        found = {
            topic: cursor.execute(f"select * from events.{topic}".encode()).fetchall()
            for topic in (*TOPICS, REJECTED)
        }
    assert disagreements(messages, found) == []
    assert {len(found[topic]) for topic in TOPICS} == {9}


def test_a_message_without_any_time_came_when_it_came_in(stand_in: StandIn) -> None:
    check(stand_in, [])
    value = said("inference", {"event_time": DROP})
    stand_in.receive([Message(PREFIX + "inference", 3, next(_offset), -1, value)])
    rows = stand_in.connection.execute("select event_time = ingested_at from events.inference")
    assert rows.fetchall() == [(True,)]


def test_the_first_event_of_an_id_counts(stand_in: StandIn) -> None:
    connection = stand_in.connection
    check(stand_in, [])
    for topic in TOPICS:
        id_name = IDS[topic]
        stand_in.receive(
            [
                Message(PREFIX + topic, 0, at, 1_700_000_000_000 + at, said(topic, {
                    "user_id" if topic != "model_events" else "reason": f"u{at}",
                    id_name: "same", "event_time": None,
                }))
                for at in range(3)
            ]
        )  # fmt: skip
        rows = connection.execute(f"select {id_name}, event_time from events.{topic}").fetchall()
        assert rows == [("same", datetime.fromtimestamp(1_700_000_000, UTC))]


def test_a_message_without_an_id_has_its_place_as_one(stand_in: StandIn) -> None:
    check(stand_in, [])
    for topic in TOPICS:
        message = Message(
            PREFIX + topic,
            2,
            17,
            1_700_000_000_000,
            said(topic, {IDS[topic]: DROP, "event_time": None}),
        )
        stand_in.receive([message])
        stand_in.receive([message])
        rows = stand_in.connection.execute(f"select {IDS[topic]} from events.{topic}").fetchall()
        assert rows == [(f"{PREFIX}{topic}/2/17",)]
    read = stand_in.connection.execute(
        "select topic, partition, next_offset, end_offset from control.consumed order by topic"
    ).fetchall()
    assert read == [(f"{PREFIX}{topic}", 2, 18, None) for topic in sorted(TOPICS)]


def test_a_message_without_a_value_is_a_dead_letter(stand_in: StandIn) -> None:
    """A tombstone comes out of a source of bytes, too; the whole row is that of Python."""
    check(stand_in, [])
    topics = (*TOPICS, REJECTED)
    messages = [
        Message(PREFIX + topic, 3, at, round(SENT.timestamp() * 1000), value)
        for topic in topics
        for at, value in enumerate([None, b""])
    ]
    stand_in.receive(messages)
    names = ", ".join(COLUMNS[REJECTED])
    rows = stand_in.connection.execute(f"select {names} from events.rejected".encode()).fetchall()
    wanted = [
        row_of(message.topic.removeprefix(PREFIX), cast(Any, message)) for message in messages
    ]
    assert {tuple(row) for row in rows} == {tuple(row.values) for row in wanted}
    assert len(rows) == len(wanted)
    assert {row.values[3] for row in wanted} == {'""'}


def test_a_disagreement_is_found(stand_in: StandIn) -> None:
    good = Message(
        PREFIX + "inference", 3, 1, round(SENT.timestamp() * 1000), said("inference", {})
    )
    bad = good._replace(offset=2, value=b"{}")
    check(stand_in, [])
    stand_in.receive([good, bad])
    with stand_in.connection.cursor(row_factory=dict_row) as cursor:
        rows: dict[str, list[dict[str, Any]]] = {
            topic: cursor.execute(f"select * from events.{topic}".encode()).fetchall()
            for topic in (*TOPICS, REJECTED)
        }
    assert disagreements([good, bad], rows) == []
    (accepted,), (refused,) = rows["inference"], rows[REJECTED]
    changes: list[dict[str, list[dict[str, Any]]]] = [
        {"inference": []},
        {REJECTED: []},
        {"inference": [{**accepted, "score": 0.1}]},
        {"inference": [{**accepted, "features": {}}]},
        {REJECTED: [{**refused, "field": "score"}]},
        {REJECTED: [refused, {**refused, "origin": good.topic + "/3/1"}]},
        {"inference": [accepted, {**accepted, "request_id": "another"}]},
    ]
    for changed in changes:
        assert disagreements([good, bad], {**rows, **changed}), changed

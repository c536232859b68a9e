"""The contract in SQL equals headrace.events.contract, message by message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from headrace.events.contract import IDS, TOPICS
from headrace.events.kafka.messages import row_of
from headrace.events.rows import COLUMNS, REJECTED
from tests.risingwave.disagreements import disagreements
from tests.support.contract_messages import DROP, SENT, STRANGE, changes, said
from tests.support.risingwave_sql_database import SqlStandIn
from tests.support.risingwave_sql_on_postgres import PREFIX, Message

_offset = iter(range(10**9))


def check(
    sql_standin: SqlStandIn, sent: list[tuple[str, bytes | None]], *, exactly: bool = True
) -> None:
    """Send messages and compare what became of each with the consumer in Python."""
    connection = sql_standin.connection
    connection.execute(
        "truncate events.inference, events.feedback, events.model_events, events.rejected, "
        "events.inference_messages, events.feedback_messages, events.model_events_messages, "
        "events.rejected_messages"
    )
    moment = round(SENT.timestamp() * 1000)
    messages = [Message(PREFIX + topic, 3, next(_offset), moment, value) for topic, value in sent]
    sql_standin.receive(messages)
    with connection.cursor(row_factory=dict_row) as cursor:
        stored = {
            topic: cursor.execute(f"select * from events.{topic}".encode()).fetchall()
            for topic in (*TOPICS, REJECTED)
        }
    assert disagreements(messages, stored, exactly=exactly) == []


def test_one_change_at_a_time(sql_standin: SqlStandIn) -> None:
    check(sql_standin, list(changes()))


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
def test_any_value_anywhere(sql_standin: SqlStandIn, sent: list[tuple[str, bytes]]) -> None:
    check(sql_standin, list(sent), exactly=False)


def test_the_time_of_a_message_is_its_senders_word(sql_standin: SqlStandIn) -> None:
    """It may be in the future, be in microseconds, or be missing."""
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
    check(sql_standin, [])
    messages = [Message(PREFIX + topic, 3, next(_offset), at, value) for topic, value, at in sent]
    sql_standin.receive(messages)
    with sql_standin.connection.cursor(row_factory=dict_row) as cursor:
        found = {
            topic: cursor.execute(f"select * from events.{topic}".encode()).fetchall()
            for topic in (*TOPICS, REJECTED)
        }
    assert disagreements(messages, found) == []
    assert {len(found[topic]) for topic in TOPICS} == {9}


def test_a_message_without_any_time_came_when_it_came_in(sql_standin: SqlStandIn) -> None:
    check(sql_standin, [])
    value = said("inference", {"event_time": DROP})
    sql_standin.receive([Message(PREFIX + "inference", 3, next(_offset), -1, value)])
    rows = sql_standin.connection.execute("select event_time = ingested_at from events.inference")
    assert rows.fetchall() == [(True,)]


def test_the_first_event_of_an_id_counts(sql_standin: SqlStandIn) -> None:
    connection = sql_standin.connection
    check(sql_standin, [])
    for topic in TOPICS:
        id_name = IDS[topic]
        sql_standin.receive(
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


def test_a_message_without_an_id_has_its_place_as_one(sql_standin: SqlStandIn) -> None:
    check(sql_standin, [])
    for topic in TOPICS:
        message = Message(
            PREFIX + topic,
            2,
            17,
            1_700_000_000_000,
            said(topic, {IDS[topic]: DROP, "event_time": None}),
        )
        sql_standin.receive([message])
        sql_standin.receive([message])
        rows = sql_standin.connection.execute(f"select {IDS[topic]} from events.{topic}").fetchall()
        assert rows == [(f"{PREFIX}{topic}/2/17",)]
    read = sql_standin.connection.execute(
        "select topic, partition, next_offset, end_offset from control.consumed order by topic"
    ).fetchall()
    assert read == [(f"{PREFIX}{topic}", 2, 18, None) for topic in sorted(TOPICS)]


def test_a_message_without_a_value_is_a_dead_letter(sql_standin: SqlStandIn) -> None:
    """A source of bytes delivers tombstones, too; the whole row equals Python's."""
    check(sql_standin, [])
    topics = (*TOPICS, REJECTED)
    messages = [
        Message(PREFIX + topic, 3, at, round(SENT.timestamp() * 1000), value)
        for topic in topics
        for at, value in enumerate([None, b""])
    ]
    sql_standin.receive(messages)
    names = ", ".join(COLUMNS[REJECTED])
    rows = sql_standin.connection.execute(
        f"select {names} from events.rejected".encode()
    ).fetchall()
    wanted = [
        row_of(message.topic.removeprefix(PREFIX), cast(Any, message)) for message in messages
    ]
    assert {tuple(row) for row in rows} == {tuple(row.values) for row in wanted}
    assert len(rows) == len(wanted)
    assert {row.values[3] for row in wanted} == {'""'}


def test_a_disagreement_is_found(sql_standin: SqlStandIn) -> None:
    good = Message(
        PREFIX + "inference", 3, 1, round(SENT.timestamp() * 1000), said("inference", {})
    )
    bad = good._replace(offset=2, value=b"{}")
    check(sql_standin, [])
    sql_standin.receive([good, bad])
    with sql_standin.connection.cursor(row_factory=dict_row) as cursor:
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

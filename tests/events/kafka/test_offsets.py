"""Where a partition goes on: in the same topic, in one made anew, after messages were dropped."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from kafka import TopicPartition

from headrace import deploy
from headrace.engine import Engine
from headrace.errors import OvertakenError
from headrace.events.kafka.offsets import (
    Available,
    Loss,
    Position,
    naming_positions,
    next_position,
    resume,
    topic_id_text,
)
from headrace.events.rows import EventRow, Origin, event_row
from headrace.events.tables import TableWriter
from tests.support.ingesting import inference, stored

T0 = TopicPartition("t", 0)


@pytest.mark.parametrize(
    ("stored_as", "seen_end", "available", "topic_id", "at_most", "position", "losses"),
    [
        # The same topic: where it was, or with what is left.
        (Position(100, "a", 0), 100, Available(0, 150), "a", None, Position(100, "a", 0), []),
        (Position(100, "a", 0), 100, Available(150, 150), "a", None, Position(150, "a", 0),
         [Loss("a", 100, 150, "dropped")]),
        # Another one under its name, with fewer messages or with more.
        (Position(100, "a", 0), 100, Available(0, 30), "b", None, Position(0, "b", 0), []),
        (Position(100, "a", 60), 100, Available(0, 150), "b", None, Position(0, "b", 0), []),
        (Position(100, "a", 0), 120, Available(10, 150), "b", None, Position(10, "b", 0),
         [Loss("a", 100, 120, "made anew"), Loss("b", 0, 10, "dropped")]),
        # Read before ids were known: those names stay.
        (Position(100, "", 0), 100, Available(0, 150), "a", None, Position(100, "a", 100), []),
        (Position(100, "", 0), 100, Available(0, 30), "a", None, Position(0, "a", 0), []),
        # Brokers that give no ids, or none now.
        (Position(100, "", 0), 100, Available(0, 150), "", None, Position(100, "", 0), []),
        (Position(100, "", 0), 100, Available(0, 30), "", 30, Position(0, "", 0), []),
        (Position(100, "a", 0), 100, Available(0, 150), "", None, Position(100, "a", 0), []),
        # An election lost the end of the topic.
        (Position(100, "a", 0), 100, Available(0, 90), "a", 90, Position(90, "a", 0), []),
        (Position(100, "a", 0), 100, Available(0, 150), "a", 70, Position(70, "a", 0), []),
        (Position(100, "a", 0), 100, Available(0, 150), "a", 150, Position(100, "a", 0), []),
    ],
)  # fmt: skip
def test_where_to_go_on(
    stored_as: Position, seen_end: int, available: Available, topic_id: str, at_most: int | None,
    position: Position,
    losses: list[Loss],
) -> None:  # fmt: skip
    assert next_position(stored_as, seen_end, available, topic_id, at_most) == (position, losses)


def lost(engine: Engine) -> list[tuple[Any, ...]]:
    query = "select topic, partition, topic_id, first_offset, end_offset, messages, reason"
    query += " from headrace.lost_messages order by first_offset"
    return [tuple(row.values()) for row in engine.rows(query)]


def test_what_was_dropped_is_kept_and_said_once(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    assert resume(engine, {T0: Available(5, 9)}, {"t": "a"}, {}) == {T0: Position(5, "a", 0)}
    assert lost(engine) == []
    for _ in range(2):
        assert resume(engine, {T0: Available(55, 60)}, {"t": "a"}, {}) == {T0: Position(55, "a", 0)}
    assert lost(engine) == [("t", 0, "a", 5, 55, 50, "dropped")]
    (said,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert "50 messages of t/0" in said.getMessage()


def row(name: str, offset: int, topic_id: str) -> EventRow:
    return event_row("inference", inference(name), Origin("t", 0, offset, topic_id))


def test_who_reads_the_topic_of_before_lets_go(engine: Engine) -> None:
    resume(engine, {T0: Available(0, 9)}, {"t": "a"}, {})
    writer = TableWriter(engine)
    writer.write([row("old", 0, "a")])
    resume(engine, {T0: Available(0, 9)}, {"t": "b"}, {})
    with pytest.raises(OvertakenError):
        writer.write([row("older", 1, "a")])
    writer.note_offsets([("t", 0, "a", 7, 8)])
    writer.write([row("new", 0, "b")])
    writer.close()
    assert stored(engine) == ["new", "old"]
    assert naming_positions(engine, [T0], {"t": "b"}) == {T0: Position(0, "b", 0)}


def test_a_place_moves_on_without_rows(engine: Engine) -> None:
    resume(engine, {T0: Available(0, 0)}, {"t": "a"}, {})
    writer = TableWriter(engine)
    query = "select next_offset, end_offset from control.consumed"
    for position, end, noted in [
        (0, None, (0, None)),
        (2, 2, (2, 2)),
        (1, 5, (2, 5)),
        (3, None, (3, 5)),
    ]:
        writer.note_offsets([("t", 0, "a", position, end)])
        assert [tuple(row.values()) for row in engine.rows(query)] == [noted]
    writer.note_offsets([("u", 0, "", 0, 0), ("u", 1, "", 2, 2)])  # of brokers that give no ids
    assert engine.rows("select partition, next_offset from control.consumed where topic = 'u'") == [
        {"partition": 1, "next_offset": 2}
    ]
    writer.close()


def test_a_database_of_before_keeps_its_names(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "dbt", lambda *_, **__: None)  # only the tables are looked at
    with engine.connect() as connection:
        connection.execute("drop table control.losses cascade")
        connection.execute(
            "alter table control.consumed drop column topic_id cascade, drop column named_from"
        )
        connection.execute("insert into control.consumed values ('t', 0, 100, 100, now())")
    deploy.migrate(engine, force=True)
    before = naming_positions(engine, [T0], {"t": "a"})
    assert before == {T0: Position(0, "a", 100)}
    assert resume(engine, {T0: Available(0, 150)}, {"t": "a"}, {}) == {T0: Position(100, "a", 100)}
    assert naming_positions(engine, [T0], {"t": "a"}) == before


def test_ids_are_written_as_kafka_writes_them() -> None:
    from uuid import UUID

    assert topic_id_text(None) == topic_id_text(UUID(int=0)) == ""
    assert topic_id_text(UUID("dd0d1c56-10a1-4f0e-8ccb-5b1e3f2a6b7c")) == "3Q0cVhChTw6My1sePyprfA"

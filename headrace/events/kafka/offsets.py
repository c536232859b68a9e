"""Where reading a partition goes on, as stored in `control.consumed`, and what was lost.

A topic that was deleted and made again has another id. It is read from its beginning, and ids of
events that are made from topic, partition and offset include the topic's id. What the brokers
dropped before it was read is stored in `control.losses`.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from kafka import TopicPartition
from psycopg.rows import dict_row

from headrace.engine import Engine
from headrace.engine.dialect import Connection

logger = logging.getLogger(__name__)

DROPPED, MADE_ANEW = "dropped", "made anew"


class Position(NamedTuple):
    """The offset that is read next, and the id of its topic (empty where the brokers give none).

    Events made from offsets from `named_from` on have the topic's id in theirs; earlier ones were
    stored when the topic's id was not known.
    """

    next_offset: int
    topic_id: str
    named_from: int


class Available(NamedTuple):
    """The offsets of a partition that the brokers have: from `first` up to, without, `end`."""

    first: int
    end: int


class Loss(NamedTuple):
    """Messages that were never read and are gone: offsets from `first` up to, without, `end`."""

    topic_id: str
    first: int
    end: int
    reason: str


def topic_id_text(topic_id: UUID | None) -> str:
    """Return the id of a topic as Kafka's tools write it; empty for none."""
    if topic_id is None or topic_id.int == 0:
        return ""
    return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()


def next_position(
    stored: Position,
    seen_end: int | None,
    available: Available,
    topic_id: str,
    at_most: int | None = None,
) -> tuple[Position, list[Loss]]:
    """Return where to go on, and what is lost.

    `seen_end` is the last end offset that was noted and `topic_id` the topic's id now. From
    `at_most` on, if the brokers say so, they have other messages than were read, or none.
    """
    losses = []
    position = stored
    if topic_id and stored.topic_id not in ("", topic_id):
        if seen_end and seen_end > stored.next_offset:
            losses.append(Loss(stored.topic_id, stored.next_offset, seen_end, MADE_ANEW))
        position = Position(0, topic_id, 0)
    elif topic_id and not stored.topic_id:
        made_anew = stored.next_offset > available.end
        at = 0 if made_anew else stored.next_offset
        position = Position(at, topic_id, named_from=at)
    elif at_most is not None and stored.next_offset >= available.first:
        # A topic with an id lost its end; one without an id may be another topic.
        at = min(stored.next_offset, at_most) if topic_id else available.first
        position = stored._replace(next_offset=at)
    if position.next_offset < available.first:
        losses.append(Loss(position.topic_id, position.next_offset, available.first, DROPPED))
        position = position._replace(next_offset=available.first)
    return position, losses


def resume(
    engine: Engine,
    available: Mapping[TopicPartition, Available],
    ids: Mapping[str, str],
    refused: Mapping[TopicPartition, int | None],
) -> dict[TopicPartition, Position]:
    """Return where to go on in each partition; changes and losses are stored and logged.

    For partitions in `refused` the brokers do not have what was read: from an offset on, or, for
    None, from the end on. A new partition begins with the first `available` message.
    """
    with engine.connect(autocommit=False, row_factory=dict_row) as connection:
        moves = [
            _move(connection, each, has, ids[each.topic], _at_most(each, has, refused))
            for each, has in sorted(available.items())
        ]
    for partition, before, position, losses in moves:
        _log_move(partition, before, position, losses)
    return {partition: position for partition, _, position, _ in moves}


def known_partitions(engine: Engine) -> set[TopicPartition]:
    """Return the partitions that were ever read, by any member of the group."""
    rows = engine.rows("select topic, partition from control.consumed")
    return {TopicPartition(row["topic"], row["partition"]) for row in rows}


def naming_positions(
    engine: Engine, partitions: Iterable[TopicPartition], ids: Mapping[str, str]
) -> dict[TopicPartition, Position]:
    """Return the positions that `resume` would, as far as ids of events need them; change nothing.

    Their `next_offset` is 0.
    """
    stored = {
        (row["topic"], row["partition"]): row
        for row in engine.rows("select * from control.consumed")
    }
    found = {}
    for partition in partitions:
        row, topic_id, named_from = stored.get(partition), ids[partition.topic], 0
        if row and row["topic_id"] in ("", topic_id):
            named_from = row["named_from"] if row["topic_id"] else row["next_offset"]
        found[partition] = Position(0, topic_id, named_from)
    return found


def _at_most(
    partition: TopicPartition,
    available: Available,
    refused: Mapping[TopicPartition, int | None],
) -> int | None:
    if partition not in refused:
        return None
    offset = refused[partition]
    return available.end if offset is None else offset


def _move(
    connection: Connection,
    partition: TopicPartition,
    available: Available,
    topic_id: str,
    at_most: int | None,
) -> tuple[TopicPartition, Position, Position, list[Loss]]:
    connection.execute(_MEET, [*partition, available.first, topic_id])
    row: dict[str, Any] = connection.execute(_LOCK, partition).fetchone() or {}
    stored = Position(row["next_offset"], row["topic_id"], row["named_from"])
    position, losses = next_position(stored, row["end_offset"], available, topic_id, at_most)
    if position != stored:
        connection.execute(_MOVE, [*position, *partition])
    for loss in losses:
        connection.execute(_LOSE, [*partition, *loss])
    return partition, stored, position, losses


_MEET = """
insert into control.consumed (topic, partition, next_offset, topic_id) values (%s, %s, %s, %s)
on conflict do nothing
"""
_LOCK = "select * from control.consumed where topic = %s and partition = %s for update"
_MOVE = """
update control.consumed
set next_offset = %s, topic_id = %s, named_from = %s, end_offset = null
where topic = %s and partition = %s
"""
_LOSE = """
insert into control.losses (topic, partition, topic_id, first_offset, end_offset, reason)
values (%s, %s, %s, %s, %s, %s) on conflict do nothing
"""


def _log_move(
    partition: TopicPartition, before: Position, position: Position, losses: list[Loss]
) -> None:
    name = f"{partition.topic}/{partition.partition}"
    if "" != before.topic_id != position.topic_id:
        logger.warning("%s was made anew (id %s): read from its beginning", name, position.topic_id)
    elif position.next_offset < before.next_offset:
        logger.warning(
            "%s was read up to %d, which the brokers do not have: going on at %d",
            name, before.next_offset, position.next_offset,
        )  # fmt: skip
    for loss in losses:
        logger.error(
            "%d messages of %s, from offset %d on, were %s unread: send them again; "
            "headrace.lost_messages keeps count",
            loss.end - loss.first, name, loss.first,
            "dropped" if loss.reason == DROPPED else "deleted with their topic",
        )  # fmt: skip

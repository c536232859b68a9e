"""Where each partition goes on: how far it was read, in which topic of that name, what was lost.

A topic that is made anew has another id: it is read from its beginning, and an event whose name is
made from its place has that id in it. What the brokers dropped before it was read is kept in
`control.losses`.
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

log = logging.getLogger(__name__)

DROPPED, MADE_ANEW = "dropped", "made anew"


class Place(NamedTuple):
    """The message that comes next, and the id of its topic ('' where the brokers give none).

    The names of messages from `named_from` on have the id in them: those before were stored when
    it was not known.
    """

    next_offset: int
    topic_id: str
    named_from: int


class Kept(NamedTuple):
    """What the brokers have of a partition: its first message, and one past its last."""

    first: int
    end: int


class Loss(NamedTuple):
    """Messages that nobody can read any more: from `first` up to `end`, which is not among them."""

    topic_id: str
    first: int
    end: int
    reason: str


def id_text(topic_id: UUID | None) -> str:
    """Return the id of a topic as the tools of Kafka write it, '' for none."""
    if topic_id is None or topic_id.int == 0:
        return ""
    return base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()


def decide(
    stored: Place,
    seen_end: int | None,
    kept: Kept,
    topic_id: str,
    at_most: int | None = None,
) -> tuple[Place, list[Loss]]:
    """Return where to go on, and what is lost.

    `seen_end` is the last end that was noted, `topic_id` what the topic's id is now, `at_most` from
    where on the brokers have other messages than were read, or none, if they say so.
    """
    losses = []
    place = stored
    if topic_id and stored.topic_id not in ("", topic_id):
        if seen_end and seen_end > stored.next_offset:
            losses.append(Loss(stored.topic_id, stored.next_offset, seen_end, MADE_ANEW))
        place = Place(0, topic_id, 0)
    elif topic_id and not stored.topic_id:
        anew = stored.next_offset > kept.end
        place = Place(0, topic_id, 0) if anew else Place(stored.next_offset, topic_id, stored[0])
    elif at_most is not None and stored.next_offset >= kept.first:
        # A topic with an id lost its end, one without may be another.
        at = min(stored.next_offset, at_most) if topic_id else kept.first
        place = stored._replace(next_offset=at)
    if place.next_offset < kept.first:
        losses.append(Loss(place.topic_id, place.next_offset, kept.first, DROPPED))
        place = place._replace(next_offset=kept.first)
    return place, losses


def go_on(
    engine: Engine,
    kept: Mapping[TopicPartition, Kept],
    ids: Mapping[str, str],
    refused: Mapping[TopicPartition, int | None],
) -> dict[TopicPartition, Place]:
    """Return where the partitions go on; what is new about them is stored and logged.

    Of those `refused` the brokers do not have what was read: from an offset on, or beyond the end.
    A partition that is met for the first time begins with the first message that is `kept`.
    """
    with engine.connect(autocommit=False, row_factory=dict_row) as connection:
        moves = [
            _move(connection, each, kept[each], ids[each.topic], _at_most(each, kept, refused))
            for each in sorted(kept)
        ]
    for partition, before, place, losses in moves:
        _say(partition, before, place, losses)
    return {partition: place for partition, _, place, _ in moves}


def met(engine: Engine) -> set[TopicPartition]:
    """Return the partitions that some member of the group has had."""
    rows = engine.rows("select topic, partition from control.consumed")
    return {TopicPartition(row["topic"], row["partition"]) for row in rows}


def places_of(
    engine: Engine, partitions: Iterable[TopicPartition], ids: Mapping[str, str]
) -> dict[TopicPartition, Place]:
    """Return the places by which messages are named, as `go_on` does or will do, but change none.

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
        found[partition] = Place(0, topic_id, named_from)
    return found


def _at_most(
    partition: TopicPartition,
    kept: Mapping[TopicPartition, Kept],
    refused: Mapping[TopicPartition, int | None],
) -> int | None:
    if partition not in refused:
        return None
    said = refused[partition]
    return kept[partition].end if said is None else said


def _move(
    connection: Connection,
    partition: TopicPartition,
    kept: Kept,
    topic_id: str,
    at_most: int | None,
) -> tuple[TopicPartition, Place, Place, list[Loss]]:
    connection.execute(_MEET, [*partition, kept.first, topic_id])
    row: dict[str, Any] = connection.execute(_LOCK, partition).fetchone() or {}
    stored = Place(row["next_offset"], row["topic_id"], row["named_from"])
    place, losses = decide(stored, row["end_offset"], kept, topic_id, at_most)
    if place != stored:
        connection.execute(_MOVE, [*place, *partition])
    for loss in losses:
        connection.execute(_LOSE, [*partition, *loss])
    return partition, stored, place, losses


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


def _say(partition: TopicPartition, before: Place, place: Place, losses: list[Loss]) -> None:
    name = f"{partition.topic}/{partition.partition}"
    if "" != before.topic_id != place.topic_id:
        log.warning("%s was made anew (id %s): read from its beginning", name, place.topic_id)
    elif place.next_offset < before.next_offset:
        log.warning(
            "%s was read up to %d, which the brokers do not have: going on at %d",
            name, before.next_offset, place.next_offset,
        )  # fmt: skip
    for loss in losses:
        log.error(
            "%d messages of %s, from offset %d on, were %s unread: send them again; "
            "headrace.lost_messages keeps count",
            loss.end - loss.first, name, loss.first,
            "dropped" if loss.reason == DROPPED else "deleted with their topic",
        )  # fmt: skip

"""One connection that stores events: a batch a transaction, each id once.

A batch is copied straight into the event tables as long as nothing comes twice; after one that held
a duplicate the next ones are copied into temporary tables and inserted from there. What comes again
with other content than is stored under its id is kept out, in ``events.conflicts``. An event that
the database refuses goes to ``events.rejected`` and takes nothing else with it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import psycopg
from psycopg import sql

from headrace.engine import Engine
from headrace.errors import OvertakenError
from headrace.events.contract import IDS, TOPICS
from headrace.events.rows import COLUMNS, ID_AT, REJECTED, Row, columns, copy, copying, rejection

# Batches that are stored the longer way after duplicates came, at most.
MAX_DETOUR = 64
# An inference before its feedback, so that a pair of one batch joins at once.
_ORDER: tuple[str, ...] = ("inference", "feedback", "model_events", REJECTED)


class Writer:
    """Stores rows over one connection, which is made when it is needed. Not for several threads.

    Every method raises psycopg.Error when the database can't be reached; the rows without an
    outcome may then be written again. Where rows have an origin, how far its partition was read is
    committed with them, so that each message counts once.

    Raises:
        OvertakenError: somebody else was there first; nothing was stored.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg.Connection[Any] | None = None
        self._detour, self._next_detour = 0, 1

    def write(self, rows: Sequence[Row]) -> None:
        """Commit the rows, halving the batch around any that the database refuses."""
        try:
            self._commit(rows)
        except Exception as error:
            if not _is_about_data(error):
                raise
            if self._connection is not None:
                self._connection.rollback()
            if len(rows) > 1:
                middle = len(rows) // 2
                self.write(rows[:middle])
                self.write(rows[middle:])
            else:
                self._refuse(rows[0], str(error).splitlines()[0])

    def expire(self) -> None:
        """Drop what panes hold beyond their retention."""
        self._connect().execute("select control.expire()")
        self._connect().commit()

    def note_ends(self, ends: Sequence[tuple[str, int, str, int, int | None]]) -> None:
        """Keep (topic, partition, topic's id, next offset, end) of where partitions have come to.

        What brokers use offsets for without a message, such as the end of a transaction, is read
        without a row; a partition may hold nothing else.
        """
        connection = self._connect()
        for topic, partition, topic_id, place, end in ends:
            connection.execute(
                _NOTE,
                {"topic": topic, "partition": partition, "topic_id": topic_id,
                 "next_offset": place, "end_offset": end},
            )  # fmt: skip
        connection.commit()

    def close(self) -> None:
        """Let go of the connection; the next write makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _refuse(self, row: Row, reason: str) -> None:
        if row.topic != REJECTED:
            self._commit([rejection(row.topic, "", reason, row.message().decode(), row.origin)])
        row.outcome = reason

    def _commit(self, rows: Sequence[Row]) -> None:
        """Store the rows in one transaction; then each of them has its outcome."""
        by_topic = {topic: _in_order(topic, rows) for topic in _ORDER}
        by_topic = {topic: of_topic for topic, of_topic in by_topic.items() if of_topic}
        if self._detour > 0:
            self._detour -= 1
            self._commit_new(by_topic)
            return
        try:
            self._commit_all(by_topic)
        except psycopg.errors.UniqueViolation:
            self._connect().rollback()
            self._detour = self._next_detour
            self._next_detour = min(2 * self._next_detour, MAX_DETOUR)
            self._commit_new(by_topic)
        else:
            self._next_detour = 1

    def _commit_all(self, by_topic: Mapping[str, Sequence[Row]]) -> None:
        connection = self._connect()
        _advance(connection, by_topic)
        for topic, rows in by_topic.items():
            copy(connection, _COPY[topic], topic, rows)
        connection.commit()
        for row in chain(*by_topic.values()):
            row.outcome = "accepted"

    def _commit_new(self, by_topic: Mapping[str, Sequence[Row]]) -> None:
        connection = self._connect()
        _advance(connection, by_topic)
        for topic, rows in by_topic.items():
            copy(connection, _COPY_STAGE[topic], topic, rows)
        with connection.pipeline():
            cursors = {topic: connection.execute(_INSERT[topic]) for topic in by_topic}
        again: dict[str, list[tuple[int, Row]]] = {}
        for topic in by_topic.keys() & IDS.keys():
            new = {row[0] for row in cursors[topic]}
            again[topic] = []
            for place, row in enumerate(by_topic[topic], 1):
                if row.id in new:
                    new.remove(row.id)
                else:
                    again[topic].append((place, row))
        conflicts = _compare(connection, again)
        connection.commit()
        for row in chain(*by_topic.values()):
            row.outcome = "accepted"
        for _, row in chain(*again.values()):
            row.outcome = "duplicate"
        for row, differing in conflicts:
            row.outcome, row.differing = "conflict", differing

    def _connect(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = self._engine.connect(
                autocommit=False, connect_timeout=5, application_name="headrace log"
            )
            connection.execute(_SHORT_DEADLOCKS)
            for statement in _STAGE.values():
                connection.execute(statement)
            connection.commit()
            self._connection = connection
        return self._connection


# A batch that waits for another process's, and that for it, is soon found and tried again. Only
# whoever may says so (a superuser, or a role with the right to set it).
_SHORT_DEADLOCKS = """
select set_config('deadlock_timeout', '100ms', false)
where has_parameter_privilege('deadlock_timeout', 'set')
"""
_STAGE = {
    topic: sql.SQL(
        "create temp table {stage} on commit delete rows as "
        "select {columns} from events.{table} with no data"
    ).format(
        stage=sql.Identifier(f"stage_{topic}"),
        columns=columns(topic),
        table=sql.Identifier(topic),
    )
    for topic in _ORDER
}
_COPY = {topic: copying(topic) for topic in _ORDER}
_COPY_STAGE = {topic: copying(topic, f"stage_{topic}") for topic in _ORDER}
_INSERT = {
    topic: sql.SQL(
        "insert into events.{table} ({columns}, ingested_at) "
        "select {columns}, (select clock_timestamp()) from {stage} "
        "on conflict do nothing returning {key}"
    ).format(
        table=sql.Identifier(topic),
        columns=columns(topic),
        stage=sql.Identifier(f"stage_{topic}"),
        key=sql.Identifier(IDS[topic]) if topic in TOPICS else sql.SQL("null"),  # type: ignore[index]
    )
    for topic in _ORDER
}

# What is staged beside what is stored, by place in the batch: the columns that are not the same.
_COMPARE: dict[str, sql.Composed] = {
    topic: sql.SQL(
        """
        with staged as (select *, row_number() over (order by ctid) as place from {stage})
        select staged.place, concat_ws(', ', {differing}) as differing
        from unnest(%s::bigint[], %s::text[]) as again (place, assumed)
        inner join staged using (place)
        inner join events.{table} as stored using ({key})
        """
    ).format(
        stage=sql.Identifier(f"stage_{topic}"),
        differing=sql.SQL(", ").join(
            sql.SQL(
                "case when staged.{column} is distinct from stored.{column} "
                "and {name} != all(string_to_array(again.assumed, ',')) then {name} end"
            ).format(column=sql.Identifier(column), name=sql.Literal(column))
            for column in COLUMNS[topic]
            if column != IDS[topic]
        ),
        table=sql.Identifier(topic),
        key=sql.Identifier(IDS[topic]),
    )
    for topic in TOPICS
}
# A sender that repeats itself is counted, not kept each time.
_KEEP_OUT = """
insert into events.conflicts as kept (topic, event_id, content_md5, differing, payload, times)
select topic, event_id, md5(payload), differing, payload, times
from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[])
    as sent (topic, event_id, payload, differing, times)
on conflict (topic, event_id, content_md5) do update set
    times = kept.times + excluded.times,
    last_ingested_at = excluded.last_ingested_at
"""


def _compare(
    connection: psycopg.Connection[Any], again: Mapping[str, Sequence[tuple[int, Row]]]
) -> list[tuple[Row, str]]:
    """Keep staged rows out whose id has other content; return them with what is not the same.

    `again` has the rows by topic, each with its place in the stage.
    """
    found: list[tuple[Row, str]] = []
    kept: dict[tuple[str, str, str], list[Any]] = {}
    for topic, placed in again.items():
        if not placed:
            continue
        places = [place for place, _ in placed]
        assumed = [",".join(row.assumed) for _, row in placed]
        by_place = dict(placed)
        for place, differing in connection.execute(_COMPARE[topic], [places, assumed]):
            if differing:
                row = by_place[place]
                found.append((row, differing))
                payload = row.message(without=row.assumed).decode()
                kept.setdefault((topic, row.id, payload), [differing, 0])[1] += 1
    if kept:
        sent = sorted((*key, *counted) for key, counted in kept.items())
        connection.execute(_KEEP_OUT, [list(column) for column in zip(*sent, strict=True)])
    return found


def _in_order(topic: str, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a topic by id: of two processes that store some of the same, one waits."""
    found = [row for row in rows if row.topic == topic]
    if topic != REJECTED:
        at = ID_AT[topic]
        found.sort(key=lambda row: row.values[at])
    return found


def _advance(connection: psycopg.Connection[Any], by_topic: Mapping[str, Sequence[Row]]) -> None:
    """Move on what `control.consumed` says of the partitions that the rows came from."""
    read: dict[tuple[str, int, str], list[int]] = {}
    for rows in by_topic.values():
        for row in rows:
            if row.origin is not None:
                read.setdefault(row.origin.of, []).append(row.origin.offset)
    for (topic, partition, topic_id), offsets in sorted(read.items()):
        moved = connection.execute(
            _ADVANCE, [topic, partition, max(offsets) + 1, topic_id, min(offsets)]
        )
        if moved.rowcount == 0:
            connection.rollback()
            raise OvertakenError(f"{topic}/{partition}: {min(offsets)} was read already")


_ADVANCE = """
insert into control.consumed as stored (topic, partition, next_offset, topic_id)
values (%s, %s, %s, %s)
on conflict (topic, partition) do update set
    next_offset = excluded.next_offset,
    consumed_at = clock_timestamp()
where stored.next_offset <= %s and excluded.topic_id in ('', stored.topic_id)
"""
_NOTE = """
insert into control.consumed as stored (topic, partition, next_offset, end_offset, topic_id)
select
    %(topic)s, %(partition)s, %(next_offset)s,
    greatest(%(end_offset)s::bigint, %(next_offset)s), %(topic_id)s
where %(next_offset)s > 0
on conflict (topic, partition) do update set
    next_offset = greatest(excluded.next_offset, stored.next_offset),
    end_offset = case
        when %(end_offset)s::bigint is null then stored.end_offset
        else greatest(excluded.end_offset, stored.next_offset)
    end
where stored.topic_id = excluded.topic_id
"""


def _is_about_data(error: Exception) -> bool:
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        return True
    # A value of which psycopg can't make the column's type.
    if isinstance(error, TypeError | ValueError | ArithmeticError | struct.error):
        return True
    # Class 54: the row is too large for a page, an index or a limit.
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")

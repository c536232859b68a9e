"""Stores rows in the event tables over one connection: a batch a transaction, each id once.

A batch is copied straight into the event tables. If an id is there already, the batch is copied
into temporary tables and inserted from there, and so are the next ones for a while. A repeated id
with other content is stored in ``events.conflicts`` only. An event that the database refuses goes
to ``events.rejected``; the rest of its batch is stored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import psycopg
from psycopg import sql

from headrace.engine import Engine
from headrace.errors import OvertakenError
from headrace.events.contract import IDS, KEYS, TOPICS
from headrace.events.rows import (
    ACCEPTED,
    COLUMNS,
    DUPLICATE,
    REJECTED,
    EventRow,
    Receipt,
    columns,
    copy_rows,
    copy_statement,
    listed,
    rejected_row,
)

# Most batches that go through temporary tables after one with duplicates.
MAX_STAGED = 64
# Inferences before feedback, so that a pair in one batch is joined at once.
_ORDER: tuple[str, ...] = ("inference", "feedback", "model_events", REJECTED)


class TableWriter:
    """Stores rows over one connection, which is opened when needed. Not for several threads.

    Every method raises psycopg.Error when the database cannot be reached; rows without a receipt
    may then be written again. For rows with an origin, the next offset of its partition is
    committed with them, so that each message is stored once.

    Raises:
        OvertakenError: another consumer stored these messages already; nothing was stored.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: psycopg.Connection[Any] | None = None
        self._staged, self._next_staged = 0, 1  # batches to stage: now, after the next duplicate

    def write(self, rows: Sequence[EventRow]) -> None:
        """Commit the rows. A batch that the database refuses is halved to find the bad rows."""
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

    def write_if(
        self, rows: Sequence[EventRow], holds: Callable[[psycopg.Connection[Any]], bool]
    ) -> bool:
        """Commit all of the rows, and only if `holds` at the end of their transaction.

        What `holds` writes over the connection is committed with them; where it returns false, or
        the database refuses a row, nothing is stored.
        """
        return self._commit_staged(_by_topic(rows), holds)

    def expire(self) -> None:
        """Drop the rows of panes that are beyond their retention."""
        self._connect().execute("select control.expire()")
        self._connect().commit()

    def note_offsets(self, ends: Sequence[tuple[str, int, str, int, int | None]]) -> None:
        """Store (topic, partition, topic's id, next offset, end offset) of partitions.

        Rows alone do not say it: some offsets have no message, such as the end of a transaction.
        """
        connection = self._connect()
        for topic, partition, topic_id, next_offset, end in ends:
            connection.execute(
                _NOTE,
                {"topic": topic, "partition": partition, "topic_id": topic_id,
                 "next_offset": next_offset, "end_offset": end},
            )  # fmt: skip
        connection.commit()

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _refuse(self, row: EventRow, reason: str) -> None:
        if row.topic != REJECTED:
            message = row.message().decode()
            self._commit([rejected_row(row.topic, "", reason, message, row.origin)])
        row.receipt = Receipt("rejected", reason=reason)

    def _commit(self, rows: Sequence[EventRow]) -> None:
        """Store the rows in one transaction and give each its receipt."""
        by_topic = _by_topic(rows)
        if self._staged > 0:
            self._staged -= 1
            self._commit_staged(by_topic)
            return
        try:
            self._commit_all(by_topic)
        except psycopg.errors.UniqueViolation:
            self._connect().rollback()
            self._staged = self._next_staged
            self._next_staged = min(2 * self._next_staged, MAX_STAGED)
            self._commit_staged(by_topic)
        else:
            self._next_staged = 1

    def _commit_all(self, by_topic: Mapping[str, Sequence[EventRow]]) -> None:
        """Copy the rows straight into the tables, which fails when an id is there already."""
        connection = self._connect()
        _advance(connection, by_topic)
        for topic, rows in by_topic.items():
            copy_rows(connection, _COPY[topic], topic, rows)
        connection.commit()
        for row in chain(*by_topic.values()):
            row.receipt = ACCEPTED

    def _commit_staged(
        self,
        by_topic: Mapping[str, Sequence[EventRow]],
        holds: Callable[[psycopg.Connection[Any]], bool] | None = None,
    ) -> bool:
        """Copy the rows into temporary tables and insert those whose id is new, if `holds`."""
        connection = self._connect()
        _advance(connection, by_topic)
        for topic, rows in by_topic.items():
            copy_rows(connection, _COPY_STAGE[topic], topic, rows)
        with connection.pipeline():
            cursors = {topic: connection.execute(_INSERT[topic]) for topic in by_topic}
        again: dict[str, list[tuple[int, EventRow]]] = {}
        for topic in by_topic.keys() & KEYS.keys():
            new = set(cursors[topic])
            again[topic] = []
            for place, row in enumerate(by_topic[topic], 1):
                if row.key in new:
                    new.remove(row.key)
                else:
                    again[topic].append((place, row))
        conflicts = _compare(connection, again)
        if holds is not None and not holds(connection):
            connection.rollback()
            return False
        connection.commit()
        for row in chain(*by_topic.values()):
            row.receipt = ACCEPTED
        for _, row in chain(*again.values()):
            row.receipt = DUPLICATE
        for row, differing in conflicts:
            row.receipt = Receipt("conflict", differing)
        return True

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


# A deadlock with another process is found soon, and the batch is tried again. Only superusers and
# roles with the right may set this.
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
_COPY = {topic: copy_statement(topic) for topic in _ORDER}
_COPY_STAGE = {topic: copy_statement(topic, f"stage_{topic}") for topic in _ORDER}
_INSERT = {
    topic: sql.SQL(
        "insert into events.{table} ({columns}, ingested_at) "
        "select {columns}, (select clock_timestamp()) from {stage} "
        "on conflict do nothing returning {key}"
    ).format(
        table=sql.Identifier(topic),
        columns=columns(topic),
        stage=sql.Identifier(f"stage_{topic}"),
        key=listed(KEYS[topic]) if topic in TOPICS else sql.SQL("null"),  # type: ignore[index]
    )
    for topic in _ORDER
}

# Staged rows joined with stored ones of the same id: the columns that differ, but for filled ones.
_COMPARE: dict[str, sql.Composed] = {
    topic: sql.SQL(
        """
        with staged as (select *, row_number() over (order by ctid) as place from {stage})
        select staged.place, concat_ws(', ', {differing}) as differing
        from unnest(%s::bigint[], %s::text[]) as again (place, filled)
        inner join staged using (place)
        inner join events.{table} as stored on {same}
        """
    ).format(
        stage=sql.Identifier(f"stage_{topic}"),
        differing=sql.SQL(", ").join(
            sql.SQL(
                "case when staged.{column} is distinct from stored.{column} "
                "and {name} != all(string_to_array(again.filled, ',')) then {name} end"
            ).format(column=sql.Identifier(column), name=sql.Literal(column))
            for column in COLUMNS[topic]
            if column not in KEYS[topic]
        ),
        table=sql.Identifier(topic),
        same=sql.SQL(" and ").join(
            sql.SQL("staged.{column} {is_} stored.{column}").format(
                column=sql.Identifier(column),
                is_=sql.SQL("=" if column == IDS[topic] else "is not distinct from"),
            )
            for column in KEYS[topic]
        ),
    )
    for topic in TOPICS
}
# The same conflict sent again raises its count.
_STORE_CONFLICTS = """
insert into events.conflicts as kept (topic, event_id, content_md5, differing, payload, times)
select topic, event_id, md5(payload), differing, payload, times
from unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::bigint[])
    as sent (topic, event_id, payload, differing, times)
on conflict (topic, event_id, content_md5) do update set
    times = kept.times + excluded.times,
    last_ingested_at = excluded.last_ingested_at
"""


def _compare(
    connection: psycopg.Connection[Any], again: Mapping[str, Sequence[tuple[int, EventRow]]]
) -> list[tuple[EventRow, tuple[str, ...]]]:
    """Store the conflicts among rows with a repeated id; return them with the columns that differ.

    `again` has the rows by topic, each with its place in the temporary table.
    """
    found: list[tuple[EventRow, tuple[str, ...]]] = []
    conflicts: dict[tuple[str, str, str], list[Any]] = {}
    for topic, placed in again.items():
        if not placed:
            continue
        places = [place for place, _ in placed]
        filled = [",".join(row.filled) for _, row in placed]
        by_place = dict(placed)
        for place, differing in connection.execute(_COMPARE[topic], [places, filled]):
            if differing:
                row = by_place[place]
                found.append((row, tuple(differing.split(", "))))
                payload = row.message(without=row.filled).decode()
                conflicts.setdefault((topic, row.id, payload), [differing, 0])[1] += 1
    if conflicts:
        sent = sorted((*key, *counted) for key, counted in conflicts.items())
        connection.execute(_STORE_CONFLICTS, [list(column) for column in zip(*sent, strict=True)])
    return found


def _by_topic(rows: Sequence[EventRow]) -> dict[str, list[EventRow]]:
    by_topic = {topic: _in_order(topic, rows) for topic in _ORDER}
    return {topic: of_topic for topic, of_topic in by_topic.items() if of_topic}


def _in_order(topic: str, rows: Sequence[EventRow]) -> list[EventRow]:
    """Return the rows of a topic by key: processes that store the same do it in one order."""
    found = [row for row in rows if row.topic == topic]
    if topic != REJECTED:
        found.sort(key=lambda row: [value or "" for value in row.key])
    return found


def _advance(
    connection: psycopg.Connection[Any], by_topic: Mapping[str, Sequence[EventRow]]
) -> None:
    """Advance the offsets in `control.consumed` of the partitions that the rows came from."""
    read: dict[tuple[str, int, str], list[int]] = {}
    for rows in by_topic.values():
        for row in rows:
            if row.origin is not None:
                read.setdefault(row.origin.topic_partition, []).append(row.origin.offset)
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
    # psycopg cannot convert a value to the column's type.
    if isinstance(error, TypeError | ValueError | ArithmeticError | struct.error):
        return True
    # Class 54: the row is too large for a page, an index or a limit.
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith("54")

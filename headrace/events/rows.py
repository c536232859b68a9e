"""Events as rows of their tables, and COPY of them in binary."""

from __future__ import annotations

import json
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import msgspec
import psycopg
from psycopg import sql

from headrace.events.contract import IDS, STRUCTS, TOPICS, Event, Topic

REJECTED = "rejected"
COLUMNS: dict[str, tuple[str, ...]] = {
    **{topic: STRUCTS[topic].__struct_fields__ for topic in TOPICS},
    REJECTED: ("topic", "field", "reason", "payload", "origin"),
}
ID_AT: dict[str, int] = {topic: COLUMNS[topic].index(IDS[topic]) for topic in TOPICS}
_JSON = ("features", "input", "output", "metadata", "metrics")
_JSON_AT = {
    topic: [COLUMNS[topic].index(name) for name in _JSON if name in COLUMNS[topic]]
    for topic in TOPICS
}
_TYPES = {
    "event_time": "timestamptz", "score": "float8", "propensity": "float8", "latency_ms": "float8",
    "value": "float8", "traffic": "float8",
    # jsonb travels as a version byte and its text
    **dict.fromkeys(_JSON, "bytea"),
}  # fmt: skip


class Origin(NamedTuple):
    """The message that a row was made from.

    Its name has the id of the topic in it from the offset `named_from` on, so that another topic's
    message at the same place has another name.
    """

    topic: str
    partition: int
    offset: int
    topic_id: str = ""  # '' where the brokers give none
    named_from: int = 0

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}/{self.offset}"
        named = self.topic_id and self.offset >= self.named_from
        return f"{place}/{self.topic_id}" if named else place

    @property
    def of(self) -> tuple[str, int, str]:
        """Its partition: name of the topic, number, id of the topic."""
        return self.topic, self.partition, self.topic_id


class Row:
    """One row of the table of `topic` (or of ``rejected``), and what became of it.

    `assumed` are columns that its sender did not say, such as the time of an event without one:
    they do not make another event of it when it comes again.
    """

    __slots__ = ("assumed", "differing", "origin", "outcome", "topic", "values")

    def __init__(
        self,
        topic: str,
        values: Sequence[Any],
        origin: Origin | None = None,
        assumed: Sequence[str] = (),
    ) -> None:
        self.topic = topic
        self.values = values
        self.origin = origin
        self.assumed = assumed
        self.outcome: str | None = None  # accepted, duplicate, conflict, or why it was refused
        self.differing = ""  # columns of a conflict that are not as they are stored

    @property
    def id(self) -> Any:
        """The id of the event, None of a rejected one."""
        return None if self.topic == REJECTED else self.values[ID_AT[self.topic]]

    def message(self, without: Container[str] = ()) -> bytes:
        """The row as a JSON object, some columns left out."""
        return msgspec.json.encode({
            name: msgspec.Raw(value[1:]) if isinstance(value, bytes) else value
            for name, value in zip(COLUMNS[self.topic], self.values, strict=True)
            if value is not None and name not in without
        })  # fmt: skip


def encoded(
    topic: Topic, event: Event, origin: Origin | None = None, assumed: Sequence[str] = ()
) -> Row:
    """Return the row of a checked event."""
    values = list(msgspec.structs.astuple(event))
    for position in _JSON_AT[topic]:
        if values[position] is not None:
            values[position] = b"\x01" + msgspec.json.encode(values[position])
    return Row(topic, values, origin, assumed)


def rejection(
    topic: str, field: str, reason: str, payload: str, origin: Origin | None = None
) -> Row:
    """Return the row of ``events.rejected`` for a payload, given as its `json_text`."""
    name = str(origin) if origin else None
    return Row(REJECTED, (topic, _storable(field), _storable(reason), payload, name), origin)


def json_text(payload: object) -> str:
    """JSON text of anything, in ASCII: ``\\u0000`` stays an escape."""
    try:
        return json.dumps(payload, default=str, skipkeys=True)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(f"a {type(payload).__name__} that JSON can't hold")


def columns(topic: str) -> sql.Composed:
    """Return the columns of a topic's table, those that the database fills left out."""
    return sql.SQL(", ").join(map(sql.Identifier, COLUMNS[topic]))


def copying(topic: str, table: str = "") -> sql.Composed:
    """Return the COPY into `table`, which is that of the topic unless told."""
    return sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(*(table or f"events.{topic}").split(".")), columns(topic)
    )


def copy(
    connection: psycopg.Connection[Any], statement: sql.Composed, topic: str, rows: Sequence[Row]
) -> None:
    """Send rows of one topic by a statement of `copying`."""
    with connection.cursor().copy(statement) as sending:
        sending.set_types([_TYPES.get(column, "text") for column in COLUMNS[topic]])
        for row in rows:
            sending.write_row(row.values)


def _storable(text: str) -> str:
    """Text without what PostgreSQL can't hold (NUL, lone surrogates), escaped instead."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()

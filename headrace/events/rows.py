"""Events as rows of their tables, what became of each row, and binary COPY of rows."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import psycopg
from psycopg import sql

from headrace.events.contract import IDS, KEYS, STRUCTS, TOPICS, Event, Topic

REJECTED = "rejected"
COLUMNS: dict[str, tuple[str, ...]] = {
    **{topic: STRUCTS[topic].__struct_fields__ for topic in TOPICS},
    REJECTED: ("topic", "field", "reason", "payload", "origin"),
}
ID_AT: dict[str, int] = {topic: COLUMNS[topic].index(IDS[topic]) for topic in TOPICS}
_KEY_AT = {topic: [COLUMNS[topic].index(name) for name in KEYS[topic]] for topic in TOPICS}
_JSON = (
    "features", "feature_ages", "input", "output", "probabilities", "metadata", "metrics",
)  # fmt: skip
_JSON_AT = {
    topic: [COLUMNS[topic].index(name) for name in _JSON if name in COLUMNS[topic]]
    for topic in TOPICS
}
_TYPES = {
    "event_time": "timestamptz", "score": "float8", "propensity": "float8",
    "target_propensity": "float8", "position": "int4", "latency_ms": "float8", "value": "float8",
    "traffic": "float8",
    # In binary, jsonb is a version byte and the JSON text.
    **dict.fromkeys(_JSON, "bytea"),
}  # fmt: skip


class Origin(NamedTuple):
    """The Kafka message that a row was made from.

    Its text, which becomes the id of an event without one, includes the id of the topic from the
    offset `named_from` on: a topic made anew gives other ids for the same offsets.
    """

    topic: str
    partition: int
    offset: int
    topic_id: str = ""  # empty where the brokers give none
    named_from: int = 0

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}/{self.offset}"
        named = self.topic_id and self.offset >= self.named_from
        return f"{place}/{self.topic_id}" if named else place

    @property
    def topic_partition(self) -> tuple[str, int, str]:
        """Name of the topic, number of the partition, id of the topic."""
        return self.topic, self.partition, self.topic_id


Status = Literal["accepted", "duplicate", "conflict", "rejected"]


class Receipt(msgspec.Struct, frozen=True):
    """What became of one item.

    Attributes:
        status: a conflict repeats a stored id with other content, and was not stored.
        differing: the fields of a conflict that differ from the stored event.
        reason: why it was rejected.
    """

    status: Status
    differing: tuple[str, ...] = ()
    reason: str = ""


ACCEPTED, DUPLICATE = Receipt("accepted"), Receipt("duplicate")


class EventRow:
    """One row of the table of `topic` (or of ``rejected``), and its receipt once it is stored.

    `filled` are columns that its sender did not set, such as the time of an event without one: when
    the event is sent again they may differ without a conflict.
    """

    __slots__ = ("filled", "origin", "receipt", "topic", "values")

    def __init__(
        self,
        topic: str,
        values: Sequence[Any],
        origin: Origin | None = None,
        filled: Sequence[str] = (),
    ) -> None:
        self.topic = topic
        self.values = values
        self.origin = origin
        self.filled = filled
        self.receipt: Receipt | None = None

    @property
    def id(self) -> Any:
        """The id of the event; None for a row of ``rejected``."""
        return None if self.topic == REJECTED else self.values[ID_AT[self.topic]]

    @property
    def key(self) -> tuple[Any, ...]:
        """The values of the columns that identify the event. Not for a row of ``rejected``."""
        return tuple(self.values[at] for at in _KEY_AT[self.topic])  # type: ignore[index]

    def message(self, without: Container[str] = ()) -> bytes:
        """Return the row as a JSON object without some of its columns."""
        return msgspec.json.encode({
            name: msgspec.Raw(value[1:]) if isinstance(value, bytes) else value
            for name, value in zip(COLUMNS[self.topic], self.values, strict=True)
            if value is not None and name not in without
        })  # fmt: skip


def event_row(
    topic: Topic, event: Event, origin: Origin | None = None, filled: Sequence[str] = ()
) -> EventRow:
    """Return the row of a checked event."""
    values = list(msgspec.structs.astuple(event))
    for position in _JSON_AT[topic]:
        if values[position] is not None:
            values[position] = b"\x01" + msgspec.json.encode(values[position])
    return EventRow(topic, values, origin, filled)


def rejected_row(
    topic: str, field: str, reason: str, payload: str, origin: Origin | None = None
) -> EventRow:
    """Return the row of ``events.rejected`` for a payload, which is given as its `json_text`."""
    name = str(origin) if origin else None
    return EventRow(REJECTED, (topic, _storable(field), _storable(reason), payload, name), origin)


def json_text(payload: object) -> str:
    """Return the JSON text of anything, in ASCII: ``\\u0000`` stays an escape."""
    try:
        return json.dumps(payload, default=str, skipkeys=True)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(f"a {type(payload).__name__} that JSON can't hold")


def columns(topic: str) -> sql.Composed:
    """Return the columns of a topic's table, without those that the database fills in."""
    return listed(COLUMNS[topic])


def listed(names: Iterable[str]) -> sql.Composed:
    """Return names as a list of SQL."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def copy_statement(topic: str, table: str = "") -> sql.Composed:
    """Return the COPY into `table`, by default that of the topic."""
    return sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(*(table or f"events.{topic}").split(".")), columns(topic)
    )


def copy_rows(
    connection: psycopg.Connection[Any],
    statement: sql.Composed,
    topic: str,
    rows: Sequence[EventRow],
) -> None:
    """Send rows of one topic with a `copy_statement`."""
    with connection.cursor().copy(statement) as sending:
        sending.set_types([_TYPES.get(column, "text") for column in COLUMNS[topic]])
        for row in rows:
            sending.write_row(row.values)


def _storable(text: str) -> str:
    """Return the text with what PostgreSQL can't hold (NUL, lone surrogates) escaped."""
    return text.replace("\x00", "\\x00").encode(errors="backslashreplace").decode()

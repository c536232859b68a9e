"""What the consumer in Python makes of messages, against the tables that SQL fills from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from headrace.events.contract import KEYS, TOPICS
from headrace.events.kafka.messages import row_of
from headrace.events.rows import COLUMNS, REJECTED
from tests.support.risingwave_sql_on_postgres import PREFIX, Message

JSON = (
    "features", "feature_ages", "input", "output", "probabilities", "metadata", "metrics",
)  # fmt: skip


def disagreements(
    messages: list[Message], stored: dict[str, list[dict[str, Any]]], *, exactly: bool = True
) -> list[str]:
    """Return how the tables differ from what the consumer in Python makes of messages.

    The messages are those of one partition in their order; `exactly` asks for the name of the very
    feature, of which there may be several in a message.
    """
    refused = {row["origin"]: row for row in stored[REJECTED]}
    accepted: dict[tuple[Any, ...], dict[str, Any]] = {
        (topic, *(row[name] for name in KEYS[topic])): row
        for topic in TOPICS
        for row in stored[topic]
    }
    seen: set[tuple[Any, ...]] = set()
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
        elif (key := (topic, *expected.key)) not in seen:
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
    # SQL does not tell which field has the NUL.
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
    """The value with its numbers as doubles; PostgreSQL's JSON may hold others."""
    if isinstance(value, dict):
        return {name: numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner) for inner in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

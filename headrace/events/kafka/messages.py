"""Messages of Kafka as rows: each event once, whatever broke the contract with its reason.

A message without an id gets one from its place in the topic, one without an `event_time` the time
of the message, so that reading it again gives the same row. That time is its sender's word, as an
`event_time` is: what both may be at most is told by our clock, or by the brokers' where they say
when they took the message in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from headrace.errors import ContractError
from headrace.events.contract import IDS, Topic, parse, unsaid
from headrace.events.rows import COLUMNS, REJECTED, Origin, Row, encoded, json_text, rejection

# Of a message's time: it is the brokers', not the sender's.
LOG_APPEND_TIME = 1


def row_of(topic: str, record: ConsumerRecord, topic_id: str = "", named_from: int = 0) -> Row:
    """Return the row of a message of a topic of the contract, or of ``rejected``. Never raises.

    `topic_id` and `named_from` are those of its `Origin`.
    """
    origin = Origin(record.topic, record.partition, record.offset, topic_id, named_from)
    try:
        return _row_of(topic, record, origin)
    except Exception as error:
        text = (record.value or b"").decode(errors="backslashreplace")
        reason = str(ContractError("", f"what can be read ({type(error).__name__})", text))
        return rejection(topic, "", reason, json_text(text), origin)


def _row_of(topic: str, record: ConsumerRecord, origin: Origin) -> Row:
    text = (record.value or b"").decode(errors="backslashreplace")
    try:
        payload = msgspec.json.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = ContractError("", "JSON", text)
        return rejection(topic, "", str(error), json_text(text), origin)
    if topic == REJECTED:
        return _dead_letter(payload, text, origin)
    named = cast(Topic, topic)
    now = datetime.now(UTC)
    sent_at = _sent_at(record)
    assumed: tuple[str, ...] = ()
    if isinstance(payload, dict):
        assumed = unsaid(payload)
        if not payload.get(IDS[named]):
            payload = {**payload, IDS[named]: str(origin)}
        if assumed and sent_at is not None:
            payload = {**payload, "event_time": sent_at}
    try:
        event = parse(named, payload, now=min(_appended_at(record) or now, now))
        return encoded(named, event, origin, assumed)
    except ContractError as error:
        return rejection(topic, error.field, str(error), json_text(payload), origin)


def _sent_at(record: ConsumerRecord) -> datetime | None:
    """The time of a message; the last there is for a later one, None for none."""
    milliseconds = record.timestamp
    if milliseconds is None or milliseconds < 0:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _appended_at(record: ConsumerRecord) -> datetime | None:
    """When the brokers took a message in, None where they do not say."""
    return _sent_at(record) if record.timestamp_type == LOG_APPEND_TIME else None


def _dead_letter(payload: Any, text: str, origin: Origin) -> Row:
    match payload:
        case {
            "topic": str(of),
            "field": str(field),
            "reason": str(reason),
            "payload": str(sent),
        } if "\x00" not in of + field + reason + sent:
            return rejection(of, field, reason, sent, origin)
    names = [name for name in COLUMNS[REJECTED] if name != "origin"]
    allowed = f"an object with the texts {', '.join(names)}"
    error = ContractError("", allowed, payload)
    return rejection(REJECTED, "", str(error), json_text(text), origin)

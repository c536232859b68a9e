"""Messages of Kafka as rows: events, or rejected payloads with the reason.

An event without an id gets one from its topic, partition and offset, one without an `event_time`
the time of the message, so that reading it again gives the same row. That time is set by the
sender, like an `event_time`: how far ahead both may be is measured by our clock, or by the brokers'
where they stamp messages on arrival.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from headrace.errors import ContractError
from headrace.events.contract import IDS, Topic, filled_fields, parse
from headrace.events.rows import (
    COLUMNS,
    REJECTED,
    EventRow,
    Origin,
    event_row,
    json_text,
    rejected_row,
)

# The timestamp type of messages that the brokers stamped, not their sender.
LOG_APPEND_TIME = 1


def row_of(topic: str, record: ConsumerRecord, topic_id: str = "", named_from: int = 0) -> EventRow:
    """Return the row of a message of a topic of the contract, or of ``rejected``. Never raises.

    `topic_id` and `named_from` go into its `Origin`.
    """
    origin = Origin(record.topic, record.partition, record.offset, topic_id, named_from)
    try:
        return _row_of(topic, record, origin)
    except Exception as error:
        text = (record.value or b"").decode(errors="backslashreplace")
        reason = str(ContractError("", f"what can be read ({type(error).__name__})", text))
        return rejected_row(topic, "", reason, json_text(text), origin)


def _row_of(topic: str, record: ConsumerRecord, origin: Origin) -> EventRow:
    text = (record.value or b"").decode(errors="backslashreplace")
    try:
        payload = msgspec.json.decode(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = ContractError("", "JSON", text)
        return rejected_row(topic, "", str(error), json_text(text), origin)
    if topic == REJECTED:
        return _dead_letter(payload, text, origin)
    contract_topic = cast(Topic, topic)
    now = datetime.now(UTC)
    sent_at = _sent_at(record)
    filled: tuple[str, ...] = ()
    if isinstance(payload, dict):
        filled = filled_fields(payload)
        if not payload.get(IDS[contract_topic]):
            payload = {**payload, IDS[contract_topic]: str(origin)}
        if filled and sent_at is not None:
            payload = {**payload, "event_time": sent_at}
    try:
        event = parse(contract_topic, payload, now=min(_appended_at(record) or now, now))
        return event_row(contract_topic, event, origin, filled)
    except ContractError as error:
        return rejected_row(topic, error.field, str(error), json_text(payload), origin)


def _sent_at(record: ConsumerRecord) -> datetime | None:
    """Return the time of a message, if it has one; `datetime.max` for a later one."""
    milliseconds = record.timestamp
    if milliseconds is None or milliseconds < 0:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def _appended_at(record: ConsumerRecord) -> datetime | None:
    """Return when the brokers took a message in, if they say."""
    return _sent_at(record) if record.timestamp_type == LOG_APPEND_TIME else None


def _dead_letter(payload: Any, text: str, origin: Origin) -> EventRow:
    match payload:
        case {
            "topic": str(of),
            "field": str(field),
            "reason": str(reason),
            "payload": str(sent),
        } if "\x00" not in of + field + reason + sent:
            return rejected_row(of, field, reason, sent, origin)
    names = [name for name in COLUMNS[REJECTED] if name != "origin"]
    allowed = f"an object with the texts {', '.join(names)}"
    error = ContractError("", allowed, payload)
    return rejected_row(REJECTED, "", str(error), json_text(text), origin)

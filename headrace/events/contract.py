"""The event contract: three topics, checked once, at the door.

`parse(topic, payload)` takes what came over the wire or from Python and returns a checked event,
or raises a `ContractError` that names the field. Whatever gets past it can be stored as it is.

Topics are `inference`, `feedback` and `model_events`. Ids are the caller's; a UUIDv7 (RFC 9562)
is made where one is missing. Timestamps are kept in UTC; one without an offset is read as UTC and
a missing one is the moment of the call.
"""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args

import msgspec

from headrace.errors import ContractError

Topic = Literal["inference", "feedback", "model_events"]
Variant = Literal["champion", "canary", "shadow", "explore", "holdout"]
FeedbackKind = Literal[
    "rating", "thumbs", "click", "dwell", "purchase", "conversion",
    "correction", "label", "preference", "report", "comment",
]  # fmt: skip
FeedbackSource = Literal["explicit", "implicit", "human", "system"]
Lifecycle = Literal["trained", "rejected", "shadow", "canary", "promoted", "rolled_back", "retired"]
Scalar = str | int | float | bool | None

TOPICS: tuple[Topic, ...] = get_args(Topic)
MAX_AHEAD = timedelta(minutes=5)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
# Bytes in UTF-8 of a name or an id. Four of them are in the key of a pane, and a row of an index of
# PostgreSQL holds 2,704 bytes.
MAX_ID = 512
# Bytes of what is in no key: a trigger's id has the model's name in it.
_LONGER = {"trigger_id": 1_024, "artifact_uri": 2_000}
# Characters of a text, and of the name of a feature.
MAX_TEXT, MAX_FEATURE = 100_000, 256
MAX_FEATURES = 1_000
MAX_NUMBER = 1e300
# Kinds that say "it happened" by being there.
OCCURRENCE = ("click", "purchase", "conversion")
# Kinds that tell nothing about which answer would have been right.
UNLABELED = ("preference", "report", "comment")


class Inference(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One answer of a model. Unit of `latency_ms`: milliseconds.

    `shadow_of` is the request that a shadow answer repeats; feedback on that speaks of both.
    """

    model: str
    model_version: str = "unversioned"
    request_id: str = ""
    event_time: datetime | None = None
    variant: Variant = "champion"
    endpoint: str | None = None
    segment: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    item_id: str | None = None
    features: dict[str, Scalar] = {}
    input: Any = None
    output: Any = None
    prediction: str | int | float | bool | None = None
    score: float | None = None
    propensity: float | None = None
    latency_ms: float | None = None
    error: str | None = None
    shadow_of: str | None = None


class Feedback(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What somebody or something made of one answer."""

    request_id: str
    feedback_id: str = ""
    event_time: datetime | None = None
    kind: FeedbackKind = "label"
    value: float | bool | None = None
    label: str | int | float | bool | None = None
    rejected_request_id: str | None = None
    source: FeedbackSource = "explicit"
    user_id: str | None = None
    metadata: dict[str, Any] = {}


class ModelEvent(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A step in the life of a model version. `traffic` is a share of requests in [0, 1]."""

    model: str
    model_version: str
    event: Lifecycle
    event_id: str = ""
    event_time: datetime | None = None
    traffic: float | None = None
    run_id: str | None = None
    trigger_id: str | None = None
    dataset_id: str | None = None
    parent_version: str | None = None
    artifact_uri: str | None = None
    metrics: dict[str, Any] = {}
    reason: str | None = None


Event = Inference | Feedback | ModelEvent
STRUCTS: dict[Topic, type[Event]] = {
    "inference": Inference,
    "feedback": Feedback,
    "model_events": ModelEvent,
}
IDS: dict[Topic, str] = {
    "inference": "request_id",
    "feedback": "feedback_id",
    "model_events": "event_id",
}
_REQUIRED: dict[Topic, tuple[str, ...]] = {
    "inference": ("model",),
    "feedback": ("request_id",),
    "model_events": ("model", "model_version", "event"),
}
_BOUNDS: dict[str, tuple[str, float, float]] = {
    "score": ("a number in [0, 1]", 0.0, 1.0),
    "traffic": ("a number in [0, 1]", 0.0, 1.0),
    "propensity": ("a number in (0, 1]", math.ulp(0.0), 1.0),
    "latency_ms": ("a number of milliseconds, 0 or more", 0.0, MAX_NUMBER),
    "value": ("a finite number", -MAX_NUMBER, MAX_NUMBER),
}


def parse(topic: Topic, payload: object, *, now: datetime | None = None) -> Event:
    """Check `payload` (a mapping as JSON gives it) and return the event with nothing missing.

    Raises:
        ContractError: names the first field that breaks the contract, what is allowed, what came.
    """
    try:
        return _parse(topic, payload, now or datetime.now(UTC))
    except (RecursionError, ValueError):
        # Python itself cannot print it: nested hundreds deep, or a number of thousands of digits.
        raise ContractError("", "JSON with sane nesting and numbers", type(payload)) from None


def _parse(topic: Topic, payload: object, now: datetime) -> Event:
    if not isinstance(payload, Mapping):
        raise ContractError("", "an object", payload)
    struct = STRUCTS[topic]
    for name in payload:
        if name not in struct.__struct_fields__:
            allowed = "one of " + ", ".join(struct.__struct_fields__)
            raise ContractError(str(name), f"a known field ({allowed})", payload[name])
    for name in _REQUIRED[topic]:
        if payload.get(name) in (None, ""):
            raise ContractError(name, "given", payload.get(name))
    present = {name: value for name, value in payload.items() if value is not None}
    _check_features(present.get("features"))
    try:
        event: Event = msgspec.convert(present, struct)
    except msgspec.ValidationError as error:
        raise _translate(struct, present, error) from None
    _check_values(event)
    _check_time(event, now)
    if isinstance(event, Feedback):
        _check_feedback(event)
    if isinstance(event, Inference) and event.shadow_of and event.variant != "shadow":
        raise ContractError("shadow_of", "given only with variant shadow", event.shadow_of)
    id_name = IDS[topic]
    if not getattr(event, id_name):
        setattr(event, id_name, uuid7())
    for name in ("prediction", "label"):
        if getattr(event, name, None) is not None:
            setattr(event, name, as_label(getattr(event, name)))
    return event


def unsaid(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what `parse` fills in by the clock: it differs when the same payload comes again."""
    return () if payload.get("event_time") is not None else ("event_time",)


def as_label(value: str | int | float | bool) -> str:
    """Return the text form of a label: ``true``, ``3`` (also for 3.0), ``0.5`` or the string.

    A number has the same text on both engines: a whole one of 64 bits its digits, another one those
    of the nearest double, from 1e16 up and below 0.00001 with an exponent (``1e+19``, ``1e-06``).
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return str(value)
    number = float(value)
    if number.is_integer() and abs(number) < 2**63:
        return str(int(number))
    text = repr(number)
    return f"{Decimal(text):f}" if 0.00001 <= abs(number) < 0.0001 else text


def uuid7() -> str:
    """Return a UUID, version 7 of RFC 9562, greater than every one this process made before.

    The order within a millisecond is kept by counting on (section 6.2, method 2).
    """
    global _last_uuid7
    milliseconds = time.time_ns() // 1_000_000
    raw = bytearray(milliseconds.to_bytes(6, "big") + os.urandom(10))
    raw[6] = (raw[6] & 0x0F) | 0x70
    raw[8] = (raw[8] & 0x3F) | 0x80
    with _uuid7_lock:
        _last_uuid7 = max(int.from_bytes(raw, "big"), _last_uuid7 + 1)
        return str(uuid.UUID(int=_last_uuid7))


_uuid7_lock = threading.Lock()
_last_uuid7 = 0


def _translate(
    struct: type[Event], present: dict[str, Any], error: msgspec.ValidationError
) -> ContractError:
    """Turn msgspec's message (``Expected `x`, got `y` - at `$.field```) into ours."""
    message, _, path = str(error).partition(" - at `$")
    name = path.strip("`.").split(".")[0].split("[")[0]
    if name in _BOUNDS:
        allowed = _BOUNDS[name][0]
    elif name in ("prediction", "label"):
        allowed = "a string, a number or a boolean"
    elif name == "event_time":
        allowed = "an RFC 3339 timestamp such as 2024-05-01T12:00:00Z"
    elif (choices := _choices(struct, name)) is not None:
        allowed = "one of " + ", ".join(choices)
    else:
        allowed = message.removeprefix("Expected ").split(", got")[0].replace("`", "")
    return ContractError(name, allowed, present.get(name))


def _choices(struct: type[Event], name: str) -> tuple[str, ...] | None:
    choices = {
        "variant": Variant, "kind": FeedbackKind, "source": FeedbackSource, "event": Lifecycle,
    }  # fmt: skip
    found = choices.get(name) if name in struct.__struct_fields__ else None
    return get_args(found) if found else None


def _check_features(features: object) -> None:
    if features is None:
        return
    if not isinstance(features, Mapping):
        raise ContractError(
            "features", "an object of name to number, string, bool or null", features
        )
    if len(features) > MAX_FEATURES:
        raise ContractError("features", f"at most {MAX_FEATURES} names", f"{len(features)} names")
    for name, value in features.items():
        if not isinstance(name, str) or not name or len(name) > MAX_FEATURE:
            raise ContractError(
                "features", f"an object with names of 1 to {MAX_FEATURE} characters", name
            )
        if value is not None and not isinstance(value, str | int | float | bool):
            raise ContractError(f"features.{name}", "a number, a string, a bool or null", value)


def _check_values(event: Event) -> None:
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if value is None:
            continue
        if not _is_plain(value):
            _check_storable(name, value)
        if isinstance(value, str):
            _check_length(name, value)
        if name in _BOUNDS:
            allowed, low, high = _BOUNDS[name]
            if not low <= value <= high:
                raise ContractError(name, allowed, value)


def _check_length(name: str, value: str) -> None:
    if name in ("error", "reason", "input", "output"):
        if len(value) > MAX_TEXT:
            raise ContractError(name, f"at most {MAX_TEXT} characters", f"{len(value)} characters")
        return
    limit = max_bytes(name)
    if len(value) > limit // 4 and (size := len(value.encode())) > limit:
        raise ContractError(name, f"at most {limit} bytes in UTF-8", f"{size} bytes")


def max_bytes(name: str) -> int:
    """The most bytes in UTF-8 that a field may have which holds a name, an id or an address."""
    return _LONGER.get(name, MAX_ID)


def _is_plain(value: object) -> bool:
    """Tell the usual values, which any column can hold, from those worth a closer look."""
    kind = type(value)
    if kind is str:
        return len(value) <= MAX_ID and value.isprintable()  # type: ignore[arg-type, attr-defined]
    if kind is float or kind is int:
        return -MAX_NUMBER <= value <= MAX_NUMBER  # type: ignore[operator]
    return kind is bool or value is None


def _check_storable(path: str, value: object, depth: int = 0) -> None:
    """Refuse what no database column could hold: NUL, lone surrogates, NaN and infinities."""
    if depth > 50:
        raise ContractError(path.split(".")[0], "nested at most 50 deep", "deeper nesting")
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise ContractError(path, f"at most {MAX_TEXT} characters", f"{len(value)} characters")
        if "\x00" in value:
            raise ContractError(path, "text without NUL characters", value)
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise ContractError(path, "valid Unicode text", value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        if not -MAX_NUMBER <= value <= MAX_NUMBER:
            raise ContractError(path, "a finite number (null stands for a missing one)", value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if not _is_plain(key):
                _check_storable(path, key, depth + 1)
            if not _is_plain(inner):
                _check_storable(f"{path}.{key}", inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_storable(path, inner, depth + 1)
    elif not isinstance(value, datetime):
        raise ContractError(path, "JSON (object, array, string, number, bool or null)", value)


def _check_time(event: Event, now: datetime) -> None:
    when = event.event_time or now
    try:
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError:
        raise ContractError("event_time", "1970-01-01 or later", when.isoformat()) from None
    if when > now + MAX_AHEAD:
        raise ContractError("event_time", "at most 5 minutes ahead of now", when.isoformat())
    if when < EARLIEST:
        raise ContractError("event_time", "1970-01-01 or later", when.isoformat())
    event.event_time = when


def _check_feedback(event: Feedback) -> None:
    if event.value is not None:
        event.value = float(event.value)
    if event.kind in OCCURRENCE and event.value is None and event.label is None:
        event.value = 1.0
    if event.kind == "preference":
        if not event.rejected_request_id:
            raise ContractError("rejected_request_id", "given for kind preference", None)
    elif event.kind not in UNLABELED and event.value is None and event.label is None:
        raise ContractError("label", f"given (or value) for kind {event.kind}", None)


def text_of(value: object) -> str:
    """The text that a model reads in an event's `input`: its strings, in order, a line each."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return "\n".join(filter(None, map(text_of, value)))
    return ""

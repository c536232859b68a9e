"""The event contract: three topics, checked once, before anything is stored.

`parse(topic, payload)` takes decoded JSON and returns a checked, immutable event that can be stored
as it is, or raises a `ContractError` that names the field.

Topics are `inference`, `feedback` and `model_events`. Senders choose the ids; a missing one becomes
a UUIDv7 (RFC 9562). Timestamps are stored in UTC: one without an offset is read as UTC, a missing
one is the time of the call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import msgspec
import uuid_utils

from headrace.errors import ContractError
from headrace.events.labels import label_text
from headrace.events.values import (
    MAX_ID,
    MAX_NUMBER,
    check_ages,
    check_features,
    check_length,
    check_probabilities,
    check_storable,
    is_plain,
)

Topic = Literal["inference", "feedback", "model_events"]
Variant = Literal["champion", "canary", "shadow", "explore", "holdout"]
FeedbackKind = Literal[
    "rating", "thumbs", "click", "dwell", "purchase", "conversion",
    "correction", "label", "preference", "report", "comment", "retraction",
]  # fmt: skip
FeedbackSource = Literal["explicit", "implicit", "human", "system"]
Lifecycle = Literal["trained", "rejected", "shadow", "canary", "promoted", "rolled_back", "retired"]
Scalar = str | int | float | bool | None

TOPICS: tuple[Topic, ...] = get_args(Topic)
MAX_AHEAD = timedelta(minutes=5)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
MAX_POSITION = 1_000_000
# Kinds that say "it happened": without a value or a label they have the value 1.
OCCURRENCE = ("click", "purchase", "conversion")
# Kinds that do not say which label was right, and those of them that have no value either.
UNLABELED = ("preference", "report", "comment", "retraction")
UNVALUED = ("report", "comment", "retraction")


class Inference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One prediction of a model. Unit of `latency_ms`: milliseconds.

    A `request_id` may be used by several models, and a request may have several predictions of one
    model, each with an `item_id`.
    `shadow_of` is the request that a shadow version predicted, too; feedback on that request counts
    for both predictions. `probabilities` are those of the classes, by class.
    `propensity` and `target_propensity` are the probabilities with which the policy in use, and
    another one, make this very prediction; `position` is where an item was shown, from 1.
    `feature_ages` has, of each feature view that features were looked up in, by how many seconds
    its row was older than `event_time`: below 0 where the row is of the end of a minute or an hour
    that was not over, null where there was no row. It is empty where the views could not be read.
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
    feature_ages: dict[str, float | None] | None = None
    input: Any = None
    output: Any = None
    prediction: str | int | float | bool | None = None
    score: float | None = None
    probabilities: dict[str, float] | None = None
    propensity: float | None = None
    target_propensity: float | None = None
    position: int | None = None
    latency_ms: float | None = None
    error: str | None = None
    shadow_of: str | None = None


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person or a system said about the predictions of a request.

    `model` and `item_id` say which of them, where there are several; else it is about each.
    A retraction takes back earlier feedback on the same request: `retracts` is its feedback_id.
    """

    request_id: str
    model: str | None = None
    item_id: str | None = None
    feedback_id: str = ""
    event_time: datetime | None = None
    kind: FeedbackKind = "label"
    value: float | bool | None = None
    label: str | int | float | bool | None = None
    rejected_request_id: str | None = None
    retracts: str | None = None
    source: FeedbackSource = "explicit"
    user_id: str | None = None
    metadata: dict[str, Any] = {}


class ModelEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A change of a model version's status. `traffic` is a share of requests in [0, 1]."""

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
# The columns that identify an event. The first is its id.
KEYS: dict[Topic, tuple[str, ...]] = {
    "inference": ("request_id", "model", "item_id"),
    "feedback": ("feedback_id",),
    "model_events": ("event_id",),
}
IDS: dict[Topic, str] = {topic: names[0] for topic, names in KEYS.items()}
_REQUIRED: dict[Topic, tuple[str, ...]] = {
    "inference": ("model",),
    "feedback": ("request_id",),
    "model_events": ("model", "model_version", "event"),
}
_OBJECTS = {
    "features": check_features,
    "probabilities": check_probabilities,
    "feature_ages": check_ages,
}
_BOUNDS: dict[str, tuple[str, float, float]] = {
    "score": ("a number in [0, 1]", 0.0, 1.0),
    "traffic": ("a number in [0, 1]", 0.0, 1.0),
    "propensity": ("a number in (0, 1]", math.ulp(0.0), 1.0),
    "target_propensity": ("a number in [0, 1]", 0.0, 1.0),
    "position": (f"a whole number from 1 to {MAX_POSITION}", 1, MAX_POSITION),
    "latency_ms": ("a number of milliseconds, 0 or more", 0.0, MAX_NUMBER),
    "value": ("a finite number", -MAX_NUMBER, MAX_NUMBER),
}


def parse(topic: Topic, payload: object, *, now: datetime | None = None) -> Event:
    """Check `payload`, decoded JSON, and return the event with missing fields filled in.

    `now` is the time of the call unless given.

    Raises:
        ContractError: names the first field that breaks the contract, what is allowed, what came.
    """
    try:
        return _parse(topic, payload, now or datetime.now(UTC))
    except (RecursionError, ValueError):
        # Nested hundreds deep, or a number of thousands of digits.
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
    for name, check in _OBJECTS.items():
        if name in present:
            check(present[name])
    try:
        event: Event = msgspec.convert(present, struct)
    except msgspec.ValidationError as error:
        raise _translate(struct, present, error) from None
    _check_values(event, present)
    filled: dict[str, Any] = {"event_time": _checked_time(event.event_time or now, now)}
    if isinstance(event, Feedback):
        filled |= _checked_feedback(event)
    elif isinstance(event, Inference):
        if event.shadow_of and event.variant != "shadow":
            raise ContractError("shadow_of", "given only with variant shadow", event.shadow_of)
        if event.prediction is not None:
            filled["prediction"] = label_text(event.prediction) or None
    elif event.traffic is not None and event.event != "canary":
        raise ContractError("traffic", "given only with event canary", event.traffic)
    if not getattr(event, IDS[topic]):
        filled[IDS[topic]] = uuid7()
    return msgspec.structs.replace(event, **filled)


def filled_fields(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that `parse` fills in with another value each time it sees `payload`."""
    return () if payload.get("event_time") is not None else ("event_time",)


def uuid7() -> str:
    """Return a UUID, version 7 of RFC 9562, greater than every one this process made before."""
    return str(uuid_utils.uuid7())


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


def _check_values(event: Event, present: Mapping[str, Any]) -> None:
    """Check the fields that are given, in their order, but for short plain texts: most are."""
    others = [
        name
        for name, value in present.items()
        if not (type(value) is str and len(value) <= MAX_ID // 4 and value.isprintable())
    ]
    for name in sorted(others, key=event.__struct_fields__.index):
        value = getattr(event, name)
        if not is_plain(value):
            check_storable(name, value)
        if isinstance(value, str):
            check_length(name, value)
        if name in _BOUNDS:
            allowed, low, high = _BOUNDS[name]
            if not low <= value <= high:
                raise ContractError(name, allowed, value)


def _checked_time(when: datetime, now: datetime) -> datetime:
    """Return the time in UTC."""
    try:
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except OverflowError:
        raise ContractError("event_time", "1970-01-01 or later", when.isoformat()) from None
    if when > now + MAX_AHEAD:
        raise ContractError("event_time", "at most 5 minutes ahead of now", when.isoformat())
    if when < EARLIEST:
        raise ContractError("event_time", "1970-01-01 or later", when.isoformat())
    return when


def _checked_feedback(event: Feedback) -> dict[str, Any]:
    """Return the label as text and the value as a number, that of an occurrence filled in."""
    kind, value, label = event.kind, event.value, event.label
    if event.model == "":
        raise ContractError("model", "not blank (left out for every model)", event.model)
    if label is not None:
        label = label_text(label)
        if not label:
            raise ContractError("label", "not blank (left out where there is none)", event.label)
    for name, of in (("rejected_request_id", "preference"), ("retracts", "retraction")):
        given = getattr(event, name)
        if kind == of and not given:
            raise ContractError(name, f"given for kind {of}", given)
        if kind != of and given is not None:
            raise ContractError(name, f"given only for kind {of}", given)
    if label is not None and kind in UNLABELED:
        raise ContractError("label", f"left out for kind {kind}", label)
    if value is not None and kind in UNVALUED:
        raise ContractError("value", f"left out for kind {kind}", value)
    if value is None and label is None:
        if kind in OCCURRENCE:
            return {"value": 1.0}
        if kind not in UNLABELED:
            raise ContractError("label", f"given (or value) for kind {kind}", None)
    return {"label": label, "value": None if value is None else float(value)}


def input_text(value: object) -> str:
    """Return the text that a model reads in an event's `input`: its strings, one a line."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return "\n".join(filter(None, map(input_text, value)))
    return ""

"""What a value of an event may be, whatever field it is in. All raise a `ContractError`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from headrace.errors import ContractError

# Most bytes in UTF-8 of a name or an id. The key of a pane has up to four of them, and PostgreSQL
# indexes rows of up to 2,704 bytes.
MAX_ID = 512
# Fields that are in no key. A trigger's id contains the model's name.
_LONGER = {"trigger_id": 1_024, "artifact_uri": 2_000}
# Most characters of a text, and of the name of a feature or of a class with a probability.
MAX_TEXT, MAX_FEATURE = 100_000, 256
MAX_FEATURES = 1_000
MAX_NUMBER = 1e300


def check_features(features: object) -> None:
    """Check the features of an event."""
    allowed = "an object of name to number, string, bool or null"
    for name, value in _named("features", features, "names", allowed):
        if value is not None and not isinstance(value, str | int | float | bool):
            raise ContractError(f"features.{name}", "a number, a string, a bool or null", value)


def check_probabilities(probabilities: object) -> None:
    """Check the probabilities of classes."""
    allowed = "an object of class to number in [0, 1]"
    for _, value in _named("probabilities", probabilities, "classes", allowed):
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ContractError("probabilities", allowed, value)


def check_ages(ages: object) -> None:
    """Check the ages of features that were looked up."""
    allowed = "an object of feature view to seconds or null"
    for _, value in _named("feature_ages", ages, "views", allowed):
        is_number = type(value) in (int, float) and -MAX_NUMBER <= value <= MAX_NUMBER
        if value is not None and not is_number:
            raise ContractError("feature_ages", allowed, value)


def _named(field: str, given: object, what: str, allowed: str) -> Iterator[tuple[str, Any]]:
    """Yield the items of an object, each after a look at its name.

    Raises:
        ContractError: it is no object, has too many of `what`, or a name is not allowed.
    """
    if not isinstance(given, Mapping):
        raise ContractError(field, allowed, given)
    if len(given) > MAX_FEATURES:
        raise ContractError(field, f"at most {MAX_FEATURES} {what}", f"{len(given)} {what}")
    for name, value in given.items():
        if not isinstance(name, str) or not name or len(name) > MAX_FEATURE:
            allowed = f"an object with names of 1 to {MAX_FEATURE} characters"
            raise ContractError(field, allowed, name)
        yield name, value


def check_length(name: str, value: str) -> None:
    """Check how long the text of a field is."""
    if name in ("error", "reason", "input", "output"):
        if len(value) > MAX_TEXT:
            raise ContractError(name, f"at most {MAX_TEXT} characters", f"{len(value)} characters")
        return
    limit = max_bytes(name)
    if len(value) > limit // 4 and (size := len(value.encode())) > limit:
        raise ContractError(name, f"at most {limit} bytes in UTF-8", f"{size} bytes")


def max_bytes(name: str) -> int:
    """Return the most bytes in UTF-8 of a field that holds a name, an id or an address."""
    return _LONGER.get(name, MAX_ID)


def is_plain(value: object) -> bool:
    """Whether a value needs no `check_storable`: a quick test that most values pass."""
    kind = type(value)
    if kind is str:
        return len(value) <= MAX_ID and value.isprintable()  # type: ignore[arg-type, attr-defined]
    if kind is float or kind is int:
        return -MAX_NUMBER <= value <= MAX_NUMBER  # type: ignore[operator]
    return kind is bool or value is None


def check_storable(path: str, value: object, depth: int = 0) -> None:
    """Reject what no column can hold: NUL, lone surrogates, NaN, infinities, what is not JSON."""
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
            if not is_plain(key):
                check_storable(path, key, depth + 1)
            if not is_plain(inner):
                check_storable(f"{path}.{key}", inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_storable(path, inner, depth + 1)
    elif not isinstance(value, datetime):
        raise ContractError(path, "JSON (object, array, string, number, bool or null)", value)

"""How a panel shows a value: text, unit, decimals and colour, as the JSON defines them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

Field = dict[str, Any]
_LENGTHS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def field_of(panel: dict[str, Any], column: str) -> Field:
    """Return the panel's field defaults, overridden for this column."""
    config = panel["fieldConfig"]
    field: Field = dict(config["defaults"])
    for override in config["overrides"]:
        if override["matcher"] == {"id": "byName", "options": column}:
            field.update({item["id"]: item["value"] for item in override["properties"]})
    return field


def number_of(value: object) -> float | None:
    """Return a finite number as a float; None for everything else (also for a bool)."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def show(value: object, field: Field) -> str:
    """Return the text of one value."""
    mapped = _mapped(value, field).get("text")
    if mapped is not None:
        return str(mapped)
    if value is None:
        return str(field.get("noValue", ""))
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    number = number_of(value)
    if number is None:
        return str(value)
    decimals = field.get("decimals")
    match field.get("unit"):
        case "s":
            return _length(number, decimals)
        case "ms":
            if abs(number) >= 1000:
                return _length(number / 1000, decimals)
            return f"{_plain(number, decimals)} ms"
        case "percentunit":
            return f"{_plain(number * 100, decimals if decimals is not None else 1)} %"
    return _plain(number, decimals)


def colour(value: object, field: Field) -> str | None:
    """Return the colour that mappings or thresholds assign to `value`, or None."""
    named = _mapped(value, field).get("color")
    if named is not None:
        return str(named)
    number = number_of(value)
    if number is None or field.get("color", {}).get("mode") != "thresholds":
        return None
    found = None
    for step in field["thresholds"]["steps"]:
        if step["value"] is None or number >= step["value"]:
            found = str(step["color"])
    return None if found == "text" else found


def _mapped(value: object, field: Field) -> dict[str, Any]:
    """Return text and colour of the first mapping that matches `value`; empty when none does.

    Raises:
        ValueError: an unknown kind of mapping; the text names it.
    """
    for mapping in field.get("mappings", []):
        options: dict[str, Any] = mapping["options"]
        match mapping["type"], options.get("match"):
            case "value", _:
                if value is not None and str(value) in options:
                    return dict(options[str(value)])
            case "special", "null":
                if value is None:
                    return dict(options["result"])
            case kind, _:
                raise ValueError(
                    f"{kind}: no such mapping; there are value, and special with match null"
                )
    return {}


def _length(seconds: float, decimals: int | None) -> str:
    for size, unit in _LENGTHS:
        if abs(seconds) >= size:
            return f"{_plain(seconds / size, 1 if decimals is None else decimals)} {unit}"
    if seconds == 0:
        return "0 s"
    return f"{_plain(seconds * 1000, 0)} ms"


def _plain(number: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{number:,.{decimals}f}"
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    return f"{number:,.3g}" if abs(number) < 1000 else f"{number:,.0f}"

"""The values and lines that a panel shows of its query's result, as Grafana picks them.

``tests/dashboards/check_grafana.py`` compares this with Grafana's own functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headrace.dashboards.fields import Field, field_of, number_of

Panel = dict[str, Any]
Points = list[tuple[datetime, float | None]]
MOST_VALUES = 25  # shown by a panel that shows every row and sets no limit


@dataclass(frozen=True)
class Result:
    """The rows of a panel's query; every row has a value for each column."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def values(self, place: int) -> list[Any]:
        return [row[place] for row in self.rows]


@dataclass(frozen=True)
class Shown:
    """One value of a stat or bar gauge panel under its name."""

    name: str
    value: Any
    field: Field


def shown(panel: Panel, result: Result) -> list[Shown]:
    """Return the values that `reduceOptions` selects: one per row, or one per column and calc.

    Columns are selected by display name; by default all numeric ones.
    """
    options = panel["options"]["reduceOptions"]
    chosen = []
    for place, column in enumerate(result.columns):
        field = field_of(panel, column)
        name = field.get("displayName", column)
        values = result.values(place)
        if _matches(options["fields"], name) if options["fields"] else _numeric(values):
            chosen.append((place, name, field))
    if options["values"]:
        every = [
            Shown(_row_name(result, row, place, name), row[place], field)
            for place, name, field in chosen
            for row in result.rows
        ]
        return every[: options.get("limit", MOST_VALUES)]
    return [
        Shown(name, reduce(calc, result.values(place)), field)
        for place, name, field in chosen
        for calc in options["calcs"] or ["last"]
    ]


def reduce(calc: str, values: Sequence[Any]) -> Any:
    """Reduce values to one; None when there is none.

    Raises:
        ValueError: an unknown calc; the text names it.
    """
    if calc not in _CALCS:
        raise ValueError(f"{calc}: no such calc; there are {', '.join(_CALCS)}")
    found = [value for value in values if value is not None]
    return _CALCS[calc](values if calc == "last" else found)


def lines_of(result: Result) -> dict[str, Points]:
    """Return the points of each line: by the text column `metric` where there is one, else by
    column.

    As in Grafana, each line has a point at every time of the result: None where it has no row,
    which breaks the line.
    """
    columns = list(result.columns)
    times = result.values(columns.index("time"))
    if "metric" not in columns:
        return {
            name: list(zip(times, map(number_of, result.values(place)), strict=True))
            for place, name in enumerate(columns)
            if name != "time"
        }
    values: dict[str, dict[datetime, float | None]] = {}
    of_metrics = result.values(columns.index("metric"))
    of_values = result.values(columns.index("value"))
    for moment, name, value in zip(times, of_metrics, of_values, strict=True):
        values.setdefault(str(name), {})[moment] = number_of(value)
    moments = sorted(set(times))
    return {name: [(at, found.get(at)) for at in moments] for name, found in values.items()}


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("/"):
        return re.search(pattern[1 : pattern.rindex("/")], name) is not None
    return name == pattern


def _numeric(values: Sequence[Any]) -> bool:
    return any(number_of(value) is not None for value in values)


def _row_name(result: Result, row: Sequence[Any], place: int, name: str) -> str:
    """Name a value by the texts of its row, plus its column where several could be meant."""
    others = [i for i in range(len(result.columns)) if i != place]
    texts = [row[i] for i in others if isinstance(row[i], str) and row[i]]
    if not texts or any(_numeric(result.values(i)) for i in others):
        texts.append(name)
    return " ".join(texts)


def _mean(values: Sequence[Any]) -> float | None:
    numbers = [number for number in map(number_of, values) if number is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _last(values: Sequence[Any]) -> Any:
    return values[-1] if values else None


_CALCS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "last": _last,
    "lastNotNull": _last,
    "mean": _mean,
}

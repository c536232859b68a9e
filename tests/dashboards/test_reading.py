"""Panels are read as Grafana reads them; check_grafana.py asks Grafana's own functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.dashboards.draw import Canvas, draw
from headrace.dashboards.fields import show
from headrace.dashboards.reading import Result, lines_of, reduce, shown

START = datetime(2024, 3, 1, tzinfo=UTC)
HOURS = [START + timedelta(hours=number) for number in range(6)]


def panel(defaults: dict[str, Any], **reduce_options: Any) -> dict[str, Any]:
    wanted = {"values": False, "calcs": ["lastNotNull"], "fields": "", **reduce_options}
    return {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"reduceOptions": wanted},
    }


PSI = Result(["feature", "psi"], [["age", 0.3], ["city", None], ["income", 0.1]])


@pytest.mark.parametrize(
    ("defaults", "options", "expected"),
    [
        ({}, {}, [("psi", 0.1)]),
        ({}, {"calcs": []}, [("psi", 0.1)]),
        ({}, {"calcs": ["mean", "last"]}, [("psi", 0.2), ("psi", 0.1)]),
        ({}, {"fields": "/.*/"}, [("feature", "income"), ("psi", 0.1)]),
        ({}, {"fields": "psi"}, [("psi", 0.1)]),
        ({}, {"values": True}, [("age", 0.3), ("city", None), ("income", 0.1)]),
        ({}, {"values": True, "limit": 1}, [("age", 0.3)]),
        (
            {},
            {"values": True, "fields": "/^psi$/"},
            [("age", 0.3), ("city", None), ("income", 0.1)],
        ),
        ({"displayName": "${__data.fields.feature}"}, {"values": True, "fields": "/^psi$/"}, []),
    ],
)
def test_values_of_a_panel(
    defaults: dict[str, Any], options: dict[str, Any], expected: list[tuple[str, Any]]
) -> None:
    values = shown(panel(defaults, **options), PSI)
    assert [(each.name, each.value) for each in values] == expected


def test_a_panel_that_chooses_nothing_says_so() -> None:
    empty = panel({"noValue": "too few rows"}, values=True, fields="/^none$/")
    for kind in "bargauge", "stat":
        empty["type"] = kind
        empty["options"]["textMode"] = "value"
        assert draw(empty, PSI, Canvas(START, HOURS[-1])) == '<p class="none">too few rows</p>'


def test_a_row_is_named_by_its_texts_and_its_column_among_others() -> None:
    result = Result(["a", "n", "b", "m"], [["x", 1, "y", 2], ["", 3, None, 4]])
    values = shown(panel({}, values=True), result)
    assert [each.name for each in values] == ["x y n", "n", "x y m", "m"]


def test_unknown_calc() -> None:
    with pytest.raises(ValueError, match="sum: no such calc; there are last"):
        reduce("sum", [1, 2])


def test_every_line_has_a_point_at_all_times() -> None:
    rows = [[HOURS[0], "a", 1.0], [HOURS[1], "b", 5.0], [HOURS[2], "a", 2.0], [HOURS[2], "b", None]]
    assert lines_of(Result(["time", "metric", "value"], rows)) == {
        "a": [(HOURS[0], 1.0), (HOURS[1], None), (HOURS[2], 2.0)],
        "b": [(HOURS[0], None), (HOURS[1], 5.0), (HOURS[2], None)],
    }


def test_what_null_means() -> None:
    null = {"type": "special", "options": {"match": "null", "result": {"text": "–"}}}
    texts = {"type": "value", "options": {"due": {"text": "due now", "color": "blue"}}}
    field = {"noValue": "no data", "mappings": [texts, null]}
    assert [show(value, field) for value in (None, "due", "None")] == ["–", "due now", "None"]
    assert show(None, {"noValue": "no data", "mappings": [texts]}) == "no data"
    with pytest.raises(ValueError, match="range: no such mapping"):
        show(3, {"mappings": [{"type": "range", "options": {}}]})

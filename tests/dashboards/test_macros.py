"""Variables and macros become what Grafana's documentation says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headrace.dashboards.macros import interpolate, key_of

START = datetime(2024, 3, 1, tzinfo=UTC)
END = datetime(2024, 3, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("model = '$model'", "model = 'o''brien'"),
        ("model = '${model}'", "model = 'o''brien'"),
        ("${model:raw}", "o'brien"),
        ("$__time(t)", 't AS "time"'),
        (
            "$__timeFilter(window_end)",
            "window_end BETWEEN '2024-03-01T00:00:00.000Z' AND '2024-03-02T00:00:00.000Z'",
        ),
        ("$__timeFrom()", "'2024-03-01T00:00:00.000Z'"),
        ("$__timeTo()", "'2024-03-02T00:00:00.000Z'"),
        ("$__timeGroup(t, '5m')", "floor(extract(epoch from t)/300)*300"),
        ("$__timeGroupAlias(t, 1h)", 'floor(extract(epoch from t)/3600)*3600 AS "time"'),
        ("like '10%' and cost = '$5'", "like '10%' and cost = '$5'"),
    ],
)
def test_interpolation(sql: str, expected: str) -> None:
    assert interpolate(sql, {"model": "o'brien"}, START, END) == expected


@pytest.mark.parametrize(
    "sql",
    ["$nobody", "${nobody}", "${model:sqlstring}", "$__unknown(t)", "$f(t)", "$__timeGroup(t, 5y)"],
)
def test_unknown_is_an_error(sql: str) -> None:
    with pytest.raises(ValueError, match=r"no such|must be"):
        interpolate(sql, {"model": "m"}, START, END)


def test_a_value_is_read_as_a_macro_and_a_key_never_is() -> None:
    model = "$__timeFilter(x) $window ${window} 'x\\"
    with pytest.raises(ValueError, match=r"\$f\(1\): no such macro"):
        interpolate("'${model}'", {"model": "$f(1)"}, START, END)
    key = key_of(model)
    assert key.isalnum() and key.isascii()
    assert interpolate("'${model}'", {"model": key}, START, END) == f"'{key}'"

"""A number that is a label has one text: in Python and in the models."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jinja2 import Environment

from headrace.events.labels import UPPER, class_of, label_text
from headrace.settings import project_path
from tests.support.formulas import EXAMPLES, Connection

FILE = project_path("dbt_project") / "macros" / "engine" / "number_text.sql"
MACROS: Any = Environment().from_string(FILE.read_text()).module
MACRO = str(MACROS.number_text("x"))
CLASSES = FILE.parent.parent / "pane" / "classes.sql"
CLASS_MACROS: Any = Environment().from_string(CLASSES.read_text()).module
CLASS_OF = str(CLASS_MACROS.class_of("x"))
EDGES = [0.00001, 0.0001, 1e15, 1e16, 2.0**53, 2.0**63, -(2.0**63)]
EDGES += [math.nextafter(x, to) for x in EDGES for to in (-math.inf, math.inf)]


@EXAMPLES
@given(st.lists(st.floats(-1e300, 1e300) | st.floats(-0.001, 0.001) | st.floats(-1e19, 1e19)))
@example([*EDGES, 0.0, -0.0, 3.0, 0.1, 5e-324, 1e-6, 1.5e-7, 1e300, 1000000000000000.5])
def test_the_models_write_what_python_writes(database: Connection, numbers: list[float]) -> None:
    numbered = "unnest(%s::float8[]) with ordinality as given (x, n)"
    query = f"select {MACRO} as text from {numbered} order by n"
    found = database.execute(query.encode(), [numbers])
    assert [row["text"] for row in found] == [label_text(x) for x in numbers]


@EXAMPLES
@given(st.lists(st.text(UPPER + UPPER.lower() + "trueTRUE 01.ßİıſ✓")))
@example([UPPER, "true", "TRUE", "falsE", "Straße", "İstanbul", "1", ""])
def test_the_models_name_the_class_that_python_names(database: Connection, said: list[str]) -> None:
    texts = [label_text(each) for each in said]
    numbered = "unnest(%s::text[]) with ordinality as given (x, n)"
    query = f"select {CLASS_OF} as name from {numbered} order by n"
    found = database.execute(query.encode(), [texts])
    assert [row["name"] for row in found] == [class_of(text) for text in texts]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "1"), (" True\t", "1"), ("FALSE", "0"), ("1.0", "1"), ("-0.0", "0"), ("1e3", "1000"),
        ("1.000000000000000000e+00", "1"), ("007", "007"), ("12345678901234567890",) * 2,
        ("1234567890123456.5",) * 2, ("Fraud ", "Fraud"), (" ", ""), (3.0, "3"), (-0.0, "0"),
        (0.5, "0.5"),
        (1e15, "1" + "0" * 15), (1e16, "1" + "0" * 16), (2**63 - 1, "9223372036854775807"),
        (1e19, "1e+19"),
        (10**19, "1e+19"), (1e-5, "0.00001"), (-0.000012345, "-0.000012345"), (9.5e-6, "9.5e-06"),
    ],
)  # fmt: skip
def test_the_text_of_a_label(value: str | float | bool, text: str) -> None:
    assert label_text(value) == text


@pytest.mark.parametrize(
    ("x", "decimals", "text"),
    [
        (0.5, 3, "0.500"), (0.0, 2, "0.00"), (12.345, 1, "12.3"), (0.996, 2, "1.00"),
        (7.05, 2, "7.05"), (1e30, 2, "1000000000000.00"), (None, 2, None),
    ],
)  # fmt: skip
def test_decimals_are_padded(
    database: Connection, x: float | None, decimals: int, text: str | None
) -> None:
    query = (
        f"select {MACROS.with_decimals('x', decimals)} as text from (select %s::float8 as x) as t"
    )
    row = database.execute(query.replace(" % ", " %% ").encode(), [x]).fetchone()
    assert row == {"text": text}

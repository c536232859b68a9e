"""Every rule on a SELECT finds the SQL that breaks it, and passes SQL like it that does not."""

from __future__ import annotations

import pytest

from tests.support.risingwave_planted import OVER, PLAIN_BAD, PLANTED
from tests.support.risingwave_select import TREE, read, violations
from tests.support.risingwave_words import PLAIN, WORDS

BAD = [(rule, sql) for rule, (bad, _) in PLANTED.items() for sql in bad]
GOOD = [(rule, sql) for rule, (_, good) in PLANTED.items() for sql in good]


def test_every_rule_is_planted() -> None:
    assert set(PLANTED) == {*WORDS, *TREE}
    assert set(PLAIN_BAD) == set(PLAIN) < set(TREE)


@pytest.mark.parametrize(("rule", "sql"), BAD)
def test_a_violation_is_found(rule: str, sql: str) -> None:
    found = violations(read("planted", sql))
    assert [text for text in found if text.startswith(f"{rule}: ")], found


@pytest.mark.parametrize(("rule", "sql"), GOOD)
def test_good_sql_passes(rule: str, sql: str) -> None:
    assert violations(read("planted", sql)) == [], rule


@pytest.mark.parametrize(
    ("rule", "sql"), [(rule, sql) for rule, bad in PLAIN_BAD.items() for sql in bad]
)
def test_a_violation_is_found_where_sqlglot_cannot_parse(rule: str, sql: str) -> None:
    model = read("planted", f"{sql} emit on window close")
    assert model.tree is None
    found = violations(model)
    assert [text for text in found if text.startswith(f"{rule}: ")], found


def test_what_sqlglot_cannot_parse_is_reported() -> None:
    window = OVER.replace("rows between 1 preceding and current row", "session with gap '5 min'")
    for known in (f"{OVER} emit on window close", window, "select x from t watermark for t"):
        assert violations(read("planted", known)) == []
    (found,) = violations(read("planted", "select x from t qualify without sense"))
    assert found.startswith("parsing: ")

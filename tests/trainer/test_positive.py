"""Which label a version's score is the probability of."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.trainer.run import positive_of

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@given(st.lists(st.sampled_from(["fraud", "legit", "1", "0"]), min_size=1), st.text(max_size=3))
def test_it_is_told_or_the_rarer_of_two(drawn: list[str], told: str) -> None:
    rows = [LabeledExample("r", NOW, NOW, Example(""), label) for label in drawn]
    labels = sorted(set(drawn))
    assert positive_of(labels[0], labels, rows) == labels[0]
    found = positive_of(told if told not in labels else None, labels, rows)
    if len(labels) != 2:
        assert found is None
    else:
        assert found is not None
        assert drawn.count(found) <= len(drawn) / 2

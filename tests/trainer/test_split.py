"""How many of the newest examples are held out, and that the parts share none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.trainer.dataset import Dataset

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def dataset(count: int) -> Dataset:
    rows = [
        LabeledExample(f"r{i}", NOW + timedelta(minutes=i), NOW, Example(""), "a")
        for i in range(count)
    ]
    return Dataset("d", {}, "", rows)


@pytest.mark.parametrize(
    ("rows", "wanted", "later", "held_out"),
    [
        (30, 0, None, 10),  # a third
        (120, 1_000, None, 40),
        (400, 1_000, None, 60),  # 15 %
        (8_000, 0, None, 300),
        (8_000, 1_500, None, 1_500),
        (8_000, 5_000, None, 1_800),  # and a quarter of those beyond 2,000
        (8_000, 1_500, 900, 900),  # the champion was trained on the others
        (8_000, 1_500, 4_000, 1_500),
        (8_000, 1_500, 20, 300),
    ],
)
def test_the_holdout_has_the_wanted_size_within_bounds(
    rows: int, wanted: int, later: int | None, held_out: int
) -> None:
    after = None if later is None else NOW + timedelta(minutes=rows - 1 - later)
    assert len(dataset(rows).split(wanted, after)[1]) == held_out


@given(st.integers(0, 900), st.integers(0, 400), st.none() | st.integers(0, 900))
def test_parts_share_no_row_and_only_the_newest_are_new(
    rows: int, wanted: int, after: int | None
) -> None:
    whole = dataset(rows)
    parts = whole.split(wanted, None if after is None else NOW + timedelta(minutes=after))
    ids = [row.request_id for part in parts for row in part]
    assert len(ids) == len(set(ids)) == rows
    train, newest, old = parts
    first = min((row.event_time for row in newest), default=NOW + timedelta(days=9))
    assert all(row.event_time < first for row in [*train, *old])

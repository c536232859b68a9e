"""How many of the newest examples are held out, and that the parts share none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.trainer.dataset import OLD_HOLDOUT_MAX, OLD_SPANS, Dataset

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


def of_requests(ids: list[str]) -> Dataset:
    return Dataset(
        "d",
        {},
        "",
        [
            LabeledExample(one, NOW + timedelta(minutes=i), NOW, Example(), "a")
            for i, one in enumerate(ids)
        ],
    )


@given(st.lists(st.integers(0, 90), max_size=400), st.integers(0, 100))
def test_items_that_were_ranked_together_stay_together(of: list[int], wanted: int) -> None:
    whole = of_requests([f"r{one}" for one in of])
    parts = whole.split(wanted)
    train, newest, old = ({row.request_id for row in part} for part in parts)
    assert len(train) + len(newest) + len(old) == len(set(of))
    assert sum(map(len, parts)) == len(of)
    first = list(dict.fromkeys(row.request_id for row in whole.rows))
    assert newest == set(first[len(first) - len(newest) :])


@pytest.mark.parametrize(("wanted", "held_out"), [(0, 300), (700, 700), (5_000, 960)])
def test_the_wanted_are_requests(wanted: int, held_out: int) -> None:
    whole = of_requests([f"r{i // 5}" for i in range(20_000)])
    assert len(whole.split(wanted)[1]) == 5 * held_out


def over(hours: list[int]) -> Dataset:
    rows = [
        LabeledExample(f"r{i}", NOW + timedelta(hours=hour), NOW, Example(""), "a")
        for i, hour in enumerate(sorted(hours))
    ]
    return Dataset("d", {}, "", rows)


@given(
    st.lists(st.tuples(st.integers(0, 9_999), st.integers(0, 400)), min_size=1, max_size=4),
    st.floats(0.3, 1),
)
def test_what_one_run_holds_out_as_old_no_other_run_trains_on(
    bursts: list[tuple[int, int]], share: float
) -> None:
    whole = over([start + i % 50 for start, count in bursts for i in range(count)])
    earlier = Dataset("d", {}, "", whole.rows[: int(share * len(whole.rows))])
    (train, _, old), (train_before, _, old_before) = whole.split(), earlier.split()
    held = {row.request_id for row in [*old, *old_before]}
    assert not held & {row.request_id for row in [*train, *train_before]}
    assert [row.event_time for row in old] == sorted(row.event_time for row in old)


def test_old_examples_are_spread_over_time_and_not_the_newest_of_them() -> None:
    # A long quiet time, then as much again in the last tenth of it.
    hours = [*range(0, 180_000, 3), *(162_000 + i % 18_000 for i in range(60_000))]
    _, newest, old = over(hours).split()
    end = min(row.event_time for row in newest) - NOW
    spans = [int((row.event_time - NOW) / end * OLD_SPANS) for row in old]
    counts = [spans.count(span) for span in range(OLD_SPANS)]
    assert len(old) == OLD_HOLDOUT_MAX
    assert max(counts) - min(counts) <= 4  # the last span ends with the last old example


@pytest.mark.parametrize(
    ("every", "held_out"), [(2, 300), (100, 3_000), (300, 4_800), (2_000, 300)]
)
def test_rare_labels_are_held_out_where_the_shares_allow_it(every: int, held_out: int) -> None:
    rows = [
        LabeledExample(f"r{i}", NOW, NOW, Example(""), "yes" if i % every == 0 else "no")
        for i in range(20_000)
    ]
    assert len(Dataset("d", {}, "", rows).split()[1]) == held_out

"""Numbers are compared as finely as they need: PSI and KS are those of the numbers themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.support.distances import distances, feature_distances, number_bins
from tests.support.formulas import EXAMPLES, MACROS, Connection
from tests.support.number_buckets import LEVELS, finest_buckets
from tests.support.oracle import score_bin

LOCATIONS = [0, 1, 15, -36.6, 48.137, 997, 1013, 2020, 1.7e9]
# Standard deviations in units of the mean.
SCALES = [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1]
ROUNDING = 1e-9


def opened(database: Connection, old: Sequence[float], new: Sequence[float]) -> list[Any]:
    """The rows of finest_buckets over these numbers, placed as the panes place them."""
    finest = MACROS["finest_bucket"]("x")
    levels = [
        f"select side, {MACROS['bucket_of_finest']('finest')} >> 7 as part, {level} as level, "
        + (MACROS["ring_place"]("finest", level) if level else MACROS["bucket_of_finest"]("finest"))
        + " as place from numbered"
        for level in range(LEVELS + 1)
    ]
    query = f"""
        with numbered as (
            select side, {finest} as finest
            from unnest(%s::double precision[], %s::text[]) as numbers (x, side)
        ),
        placed as ({" union all ".join(levels)}),
        given as (
            select 'g' as g, part, level, place,
                count(*) filter (where side = 'old') as reference,
                count(*) filter (where side = 'new') as current
            from placed group by part, level, place
        ),
        {MACROS["finest_buckets"]("result", "given", ["g"])}
        select bucket, value, reference, current from result order by bucket
    """
    sides = ["old"] * len(old) + ["new"] * len(new)
    return database.execute(query.encode(), [[*old, *new], sides]).fetchall()


@st.composite
def _samples(draw: st.DrawFn) -> list[float]:
    """Numbers around a few places, from constants to wide ones, and some that are anywhere."""
    found: list[float] = []
    for _ in range(draw(st.integers(1, 3))):
        location, scale = draw(st.sampled_from(LOCATIONS)), draw(st.sampled_from([0, *SCALES]))
        steps = draw(st.lists(st.integers(-300, 300), max_size=60))
        times = draw(st.sampled_from([1, 1, 40]))
        found += [location + (location or 1) * scale * step / 100 for step in steps] * times
    return found + draw(st.lists(st.floats(-1e300, 1e300), max_size=4))


@EXAMPLES
@given(_samples(), _samples())
def test_buckets_equal_recompute(database: Connection, old: list[float], new: list[float]) -> None:
    sides = finest_buckets(old, new)
    first, second = (Counter(bucket.lowest for bucket in side) for side in sides)
    values = {bucket.lowest: bucket.value for side in sides for bucket in side}
    rows = opened(database, old, new)
    assert {row["bucket"]: (row["reference"], row["current"]) for row in rows} == {
        lowest: (first[lowest], second[lowest]) for lowest in values
    }
    for row in rows:
        assert row["value"] == pytest.approx(values[row["bucket"]], rel=ROUNDING)


def exact_psi(old: Any, new: Any) -> float:
    """Over the deciles of the raw reference, empty ones smoothed by half a row."""
    edges = np.quantile(old, np.arange(0.1, 1, 0.1))
    sides = [np.bincount(np.searchsorted(edges, x), minlength=10) + 0.5 for x in (old, new)]
    before, after = (side / side.sum() for side in sides)
    return float(((after - before) * np.log(after / before)).sum())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("location", LOCATIONS)
def test_distances_are_those_of_the_numbers(location: float, scale: float) -> None:
    rng = np.random.default_rng(21)
    sd = abs(location or 1) * scale
    for moved in (0, 0.3, 1, 2):
        old, new = rng.normal(location, sd, 4000), rng.normal(location + moved * sd, sd, 4000)
        found, _ = feature_distances(old.tolist(), new.tolist(), [])
        assert found["ks"] == pytest.approx(stats.ks_2samp(old, new).statistic, abs=0.04)
        assert found["psi"] == pytest.approx(exact_psi(old, new), rel=0.25, abs=0.01)


@pytest.mark.parametrize(
    ("before", "after"), [(0.97, 0.98), (0.5, 0.515), (0.2, 0.185), (0.001, 0.0013), (0.03, 0.02)]
)
def test_scores_that_move_by_two_bins_are_seen(before: float, after: float) -> None:
    """A bin is 1/160 wide from 0.1 to 0.9, and beyond an eighth of what is left to 0 or 1."""
    rng = np.random.default_rng(22)
    old, new = (rng.normal(at, abs(after - before) / 8, 1000) for at in (before, after))
    found = distances(*number_bins(*([score_bin(x) for x in side.tolist()] for side in (old, new))))
    assert found["psi_excess"] > 1 and found["p_value"] < 1e-9

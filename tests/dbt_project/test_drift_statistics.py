"""The formula macros of drift and trends equal SciPy, NumPy or a plain loop, and never raise."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from tests.support.formulas import (
    EXAMPLES,
    MACROS,
    NUMBERS,
    TABLES,
    Connection,
    evaluate,
    groups,
    table,
    values,
)

# The same formula in doubles, summed in another order.
ROUNDING = 1e-9
# chi_square_p_value: exact for 1 and 2 degrees; above, Canal's roots are only nearly normal.
CHI_SQUARE_EXACT = 1e-10
CHI_SQUARE = 8e-4
CHI_SQUARE_TAIL = 2e-4
CHI_SQUARE_TAIL_RELATIVE = 0.03
# ks_p_value: the terms of both series that are left out.
KOLMOGOROV = 1e-13
# The residual of a perfect fit is what rounding leaves of the sum of squares; its root is 1e-8.
RESIDUAL = 1e-7
# A running sum keeps the rounding of its greatest term.
RUNNING = 1e-11


@EXAMPLES
@given(st.lists(st.floats(0, 300), min_size=1, max_size=20))
def test_chi_square(database: Connection, drawn: list[float]) -> None:
    cases = [
        (statistic, degrees)
        for degrees in range(1, 51)
        for statistic in [*drawn, 0.0, *(degrees * x for x in (0.01, 0.5, 1.0, 1.5, 3.0, 10.0))]
    ]
    p = np.array(evaluate(database, "chi_square_p_value", cases))
    expected = np.array([stats.chi2.sf(*case) for case in cases])
    exact = np.array([degrees <= 2 for _, degrees in cases])
    np.testing.assert_allclose(p[exact], expected[exact], atol=CHI_SQUARE_EXACT, rtol=0)
    np.testing.assert_allclose(p, expected, atol=CHI_SQUARE, rtol=0)
    tail = expected < 0.1
    np.testing.assert_allclose(p[tail], expected[tail], atol=CHI_SQUARE_TAIL, rtol=0)
    tail &= expected > 1e-4
    np.testing.assert_allclose(p[tail], expected[tail], rtol=CHI_SQUARE_TAIL_RELATIVE)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(1, 1000)), min_size=2, max_size=8))
def test_cramers_v(database: Connection, categories: list[tuple[int, int]]) -> None:
    observed = np.array(categories).T
    statistic = float(stats.chi2_contingency(observed, correction=False).statistic)
    case = (statistic, int(observed.sum()), len(categories) - 1)
    (effect,) = evaluate(database, "cramers_v", [case])
    expected = stats.contingency.association(observed, method="cramer")
    assert effect == pytest.approx(expected, rel=1e-6, abs=ROUNDING)


sizes = st.integers(1, 10**7)


@EXAMPLES
@given(st.lists(st.tuples(st.floats(0, 1), sizes, sizes), min_size=1, max_size=100))
def test_kolmogorov_smirnov(database: Connection, cases: list[tuple[float, int, int]]) -> None:
    # lambda itself, from where p is 1 to where it is 0
    cases += [(x / 10, 200, 200) for x in np.linspace(0, 10, 201).tolist()]
    p = evaluate(database, "ks_p_value", cases)
    expected = [stats.kstwobign.sf(d * math.sqrt(n * m / (n + m))) for d, n, m in cases]
    np.testing.assert_allclose(p, expected, rtol=0, atol=KOLMOGOROV)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=40))
def test_shares(database: Connection, bins: list[tuple[int, int]]) -> None:
    sides = np.array(bins, dtype=float).T
    totals = sides.sum(axis=1)
    smoothed = (sides + 0.5) / (totals + 0.5 * len(bins))[:, None]
    for side in (0, 1):
        total = int(totals[side])
        cases = [(count[side], total, len(bins)) for count in bins]
        shares = evaluate(database, "smoothed_share", cases)
        np.testing.assert_allclose(shares, smoothed[side], rtol=ROUNDING)
        assert sum(shares) == pytest.approx(1)
    pairs = [(float(r), float(c)) for r, c in smoothed.T]
    psi = sum(evaluate(database, "psi_term", pairs))
    both_ways = stats.entropy(*smoothed) + stats.entropy(*smoothed[::-1])
    assert psi == pytest.approx(both_ways, abs=ROUNDING)


@EXAMPLES
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=40))
def test_jensen_shannon(database: Connection, bins: list[tuple[int, int]]) -> None:
    bins.append((1, 2))
    p, q = np.array(bins, dtype=float).T
    pairs = [(float(a), float(b)) for a, b in zip(p / p.sum(), q / q.sum(), strict=True)]
    assert sum(evaluate(database, "js_term", pairs)) == pytest.approx(js(p, q), abs=ROUNDING)


def js(p: Any, q: Any) -> float:
    """SciPy's is the root; of what rounding leaves below 0 it has none."""
    with np.errstate(invalid="ignore"):
        return float(np.nan_to_num(jensenshannon(p, q, base=2) ** 2))


keys = st.sampled_from(["a", "b", None])
measured = st.one_of(st.none(), st.integers(-(10**9), 10**9).map(lambda x: x / 1000))


@EXAMPLES
@given(
    st.lists(st.tuples(keys, st.integers(0, 10**5), measured), min_size=1, max_size=60),
    st.sampled_from([0, 1_700_000_000]),
)
def test_least_squares(
    database: Connection, drawn: list[tuple[Any, int, float | None]], epoch: int
) -> None:
    rows = [(g, float(x + epoch), y) for g, x, y in drawn]
    found = {row["g"]: row for row in table(database, "least_squares", ["g", "x", "y"], rows)}
    expected = groups([row for row in drawn if row[2] is not None])
    assert found.keys() == expected.keys()
    for g, points in expected.items():
        row = found[g]
        x, y = np.array(points, dtype=float).T
        assert row["n"] == len(points)
        if len(points) < 3 or len(set(x)) == 1:
            lines = ("slope", "intercept", "r_squared", "slope_stderr")
            assert [row[name] for name in lines] == [None] * 4
            continue
        if len(set(y)) == 1:
            assert (row["slope"], row["r_squared"], row["slope_stderr"]) == (0, None, 0)
            continue
        # A weight of 3 is a point three times, but for the degrees of freedom. Moved by whole
        # seconds the slope is the same, and SciPy has more digits.
        weights = np.where(y > 0, 3, 1)
        line = stats.linregress(np.repeat(x, weights), np.repeat(y, weights))
        freedom = (weights.sum() - 2) / (len(points) - 2)
        steepness = y.std() / x.std()
        assert row["slope"] == pytest.approx(line.slope, abs=ROUNDING * steepness)
        assert row["slope_stderr"] == pytest.approx(
            line.stderr * math.sqrt(freedom), rel=RESIDUAL, abs=RESIDUAL * steepness
        )
        assert row["r_squared"] == pytest.approx(line.rvalue**2, abs=ROUNDING)
        predicted = row["y_mean"] + row["slope"] * (x + epoch - row["x_mean"])
        scale = np.abs(y).max() + steepness * 1e5
        np.testing.assert_allclose(
            predicted, line.intercept + line.slope * x, atol=ROUNDING * scale
        )
        assert row["intercept"] == pytest.approx(row["y_mean"] - row["slope"] * row["x_mean"])


def test_least_squares_of_shares_has_at_least_their_variance(database: Connection) -> None:
    rows = [("a", float(x), y) for x, y in enumerate([0.2, 0.3, 0.4])]
    relation, parameters = values(["g", "x", "y"], rows)
    line = MACROS["least_squares"](
        "line", "given", ["g"], "x", "y", weight="50", variance="y_mean * (1 - y_mean)"
    )
    query = f"with given as (select * from {relation}), {line} select * from line"
    (row,) = database.execute(query.encode(), parameters)
    assert row["slope"] == pytest.approx(0.1)
    assert row["slope_stderr"] == pytest.approx(math.sqrt(0.3 * 0.7 / 50 / 2))


@EXAMPLES
@given(st.lists(st.tuples(keys, st.integers(0, 10**6), measured), min_size=1, max_size=80))
def test_page_hinkley(database: Connection, drawn: list[tuple[Any, int, float | None]]) -> None:
    rows = list({row[:2]: row for row in drawn}.values())
    found = table(database, "page_hinkley", ["g", "at", "x"], rows)
    assert len(found) == sum(x is not None for _, _, x in rows)
    statistics = {(row["g"], row["at"]): (row["n"], row["statistic"]) for row in found}
    for g, points in groups([row for row in rows if row[2] is not None]).items():
        total = weights = m = lowest = 0.0
        for n, (at, x) in enumerate(sorted(points), start=1):
            weight = 1 + at % 3
            total += weight * x
            weights += weight
            m += weight * (x - total / weights - TABLES["page_hinkley"]["delta"])
            lowest = m if n == 1 else min(lowest, m)
            close = pytest.approx(m - lowest, abs=RUNNING * 1e6 * weights)
            assert statistics[g, at] == (n, close)


def test_page_hinkley_sees_a_step_up_and_not_down(database: Connection) -> None:
    random = np.random.default_rng(3)
    noise = random.normal(0, 0.1, 400)
    step = np.repeat([0.0, 2.0], 200)
    rows = [("up", i, float(x)) for i, x in enumerate(noise + step)]
    rows += [("down", i, float(x)) for i, x in enumerate(noise - step)]
    found = table(database, "page_hinkley", ["g", "at", "x"], rows)
    highest = {g: max(row["statistic"] for row in found if row["g"] == g) for g in ("up", "down")}
    before = max(row["statistic"] for row in found if row["at"] < 200)
    assert before < 1 < 50 < highest["up"] and highest["down"] < 1


def test_page_hinkley_threshold(database: Connection) -> None:
    cases = [(0.04, 0.1, 1, 0.001), (0.04, 0.1, 300, 0.05), (0.0, 0.1, 3, 0.05), (2.0, 1.0, 9, 0.0)]
    expected = [v / (2 * d) * math.log(n * (n + 1) / max(a, 1e-30)) for v, d, n, a in cases]
    assert evaluate(database, "page_hinkley_threshold", cases) == pytest.approx(expected)


def test_page_hinkley_is_valid_at_any_length_and_finds_a_rise(database: Connection) -> None:
    """Streams of 300 points of 100 labels; an error of 0.1 that rises to 0.2 after 100 of them."""
    random = np.random.default_rng(11)
    steady = random.binomial(100, 0.1, (200, 300)) / 100
    risen = steady[:100].copy()
    risen[:, 100:] = random.binomial(100, 0.2, (100, 200)) / 100
    sigma = math.sqrt(0.1 * 0.9 / 100)
    relation, parameters = values(
        ["g", "at", "x"],
        [
            (f"{kind} {stream}", at, float(x))
            for kind, streams in (("steady", steady), ("risen", risen))
            for stream, errors in enumerate(streams)
            for at, x in enumerate(errors)
        ],
    )
    found = MACROS["page_hinkley"]("result", "given", ["g"], "at", "x", sigma / 2)
    limit = MACROS["page_hinkley_threshold"](sigma**2, sigma / 2, "n", 0.05)
    query = f"""
        with given as (select * from {relation}), {found}
        select g, min(at) filter (where statistic >= {limit}) as alarm from result group by g
    """
    alarms = {row["g"]: row["alarm"] for row in database.execute(query.encode(), parameters)}
    false = [g for g, alarm in alarms.items() if alarm is not None and "steady" in g]
    assert len(false) <= 0.05 * len(steady)
    late = [g for g, at in alarms.items() if "risen" in g and not (at and 100 <= at < 110)]
    assert len(late) <= 0.05 * len(risen)


bin_counts = st.integers(0, 500)
histograms = st.lists(
    st.tuples(keys, st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), bin_counts, bin_counts),
    min_size=1,
    max_size=60,
    unique_by=lambda row: row[:2],
)


@EXAMPLES
@given(histograms)
def test_wasserstein_distances(
    database: Connection, drawn: list[tuple[Any, float, int, int]]
) -> None:
    rows = [(g, value, value, old, new) for g, value, old, new in drawn]
    names = ["g", "bin_order", "value", "reference", "current"]
    found = {row["g"]: row for row in table(database, "wasserstein_distances", names, rows)}
    assert found.keys() == {row[0] for row in drawn}
    for g, bins in groups(drawn).items():
        row = found[g]
        values, old, new = np.array(bins, dtype=float).T
        if not old.sum() or not new.sum():
            assert (row["wasserstein"], row["wasserstein_normed"]) == (None, None)
            continue
        before, after = np.repeat(values, old.astype(int)), np.repeat(values, new.astype(int))
        area = stats.wasserstein_distance(before, after)
        assert row["wasserstein"] == pytest.approx(area, abs=ROUNDING * 1e6)
        if len(set(before)) == 1:
            assert row["wasserstein_normed"] is None
        else:
            assert row["wasserstein_normed"] == pytest.approx(area / before.std(), rel=1e-6)


def test_ks_equals_that_of_the_rows(database: Connection) -> None:
    random = np.random.default_rng(5)
    old, new = random.integers(0, 40, 500), random.integers(3, 45, 300)
    rows = [
        ("a", value, value, int((old == value).sum()), int((new == value).sum()))
        for value in range(50)
    ]
    names = ["g", "bucket", "value", "reference", "current"]
    found = table(database, "binned_numbers", names, rows)
    ks = max(row["gap"] for row in found)
    expected = stats.ks_2samp(old, new, method="asymp")
    assert ks == pytest.approx(expected.statistic)
    (p,) = evaluate(database, "ks_p_value", [(ks, 500, 300)])
    # SciPy corrects for the size of the samples, which the asymptotic formula does not.
    assert p == pytest.approx(expected.pvalue, rel=0.2)


def test_tables_survive_extreme_numbers(database: Connection) -> None:
    extremes = [x for x in NUMBERS if x is None or x == x]
    rows = [
        (f"{x}, {y}", *point)
        for x, y in itertools.product(extremes, repeat=2)
        for point in ((x, y), (y, x), (x, 1.0), (0.0, y), (1e-29, 1e-29))
    ]
    fits = table(database, "least_squares", ["g", "x", "y"], rows)
    assert any(row["slope"] is not None for row in fits)
    table(
        database,
        "page_hinkley",
        ["g", "x", "at"],
        [(g, x, at) for at, (g, x, _) in enumerate(rows)],
    )
    places = sorted(x for x in extremes if x is not None)
    bins = [
        (f"{skip}", i, x, i % 3, (i + 1) % 4)
        for skip in places
        for i, x in enumerate(places)
        if x != skip
    ]
    names = ["g", "bin_order", "value", "reference", "current"]
    for row in table(database, "wasserstein_distances", names, bins):
        assert math.isfinite(row["wasserstein_normed"])

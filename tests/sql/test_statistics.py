"""The formula macros equal SciPy, NumPy or a plain loop, and never raise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jinja2 import Environment
from psycopg.rows import dict_row
from scipy import stats
from scipy.spatial.distance import jensenshannon

from headrace.embedded import EmbeddedPostgres
from headrace.settings import project_path
from tests.sql.risingwave import raw_violations, read

Connection = psycopg.Connection[Any]

# The same formula in doubles, summed in another order.
ROUNDING = 1e-9
# normal_cdf: the error of Hart's ratio, absolute, and relative up to |z| = 7.
NORMAL = 4.5e-16
NORMAL_TAIL = 1e-8
# always_valid_p_value: an exponent of up to 700 carries its rounding 700 times, and stops there.
EXPONENT = 1e-7
VANISHING = 1e-300
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

EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class CompilerError(Exception):
    pass


def raise_compiler_error(message: str) -> NoReturn:
    raise CompilerError(message)


def load_macros() -> dict[str, Callable[..., str]]:
    """The macros of both files, rendered by plain Jinja: dbt takes a second for each."""
    package = SimpleNamespace()
    environment = Environment()
    environment.globals["headrace"] = package
    environment.globals["exceptions"] = SimpleNamespace(raise_compiler_error=raise_compiler_error)
    for name in ("statistics", "drift_statistics"):
        path: Path = project_path("dbt_project") / "macros" / f"{name}.sql"
        module = environment.from_string(path.read_text()).module
        package.__dict__.update(
            {key: value for key, value in vars(module).items() if not key.startswith("_")}
        )
    return vars(package)


MACROS = load_macros()
COUNTS = [None, -1, 0, 1, 2, 3, 40, 10**15]
NUMBERS = [None, math.nan, math.inf, -math.inf, 0.0, 1.0, -1.0, 0.3, 3.0, 40.0]
NUMBERS += [5e-324, -5e-324, 1e-300, 1e-30, 1e-12, 1e12, 1e30, 1.7e308, -1.7e308]
SHARES = [None, 0.0, 1e-18, 0.25, 1.0]
SUMS = [None, 0.0, 1e-9, 1.0, 1e12]
# Whatever may come as each argument, and whether the value is in [0, 1].
SCALARS: dict[str, tuple[list[Sequence[Any]], bool]] = {
    "normal_cdf": ([NUMBERS], True),
    "normal_p_value": ([NUMBERS], True),
    "wilson_low": ([COUNTS, COUNTS], True),
    "wilson_high": ([COUNTS, COUNTS], True),
    "two_proportion_z": ([COUNTS] * 4, False),
    "always_valid_p_value": ([COUNTS] * 4, True),
    "chi_square_p_value": ([NUMBERS, COUNTS], True),
    "cramers_v": ([NUMBERS, COUNTS, COUNTS], True),
    "ks_p_value": ([NUMBERS, COUNTS, COUNTS], True),
    "smoothed_share": ([COUNTS[2:], COUNTS[2:], COUNTS[2:]], False),
    "psi_term": ([SHARES, SHARES], False),
    "js_term": ([SHARES, SHARES], False),
    "ucb1": ([[None, 0.0, 1.0], COUNTS, COUNTS], False),
    "effective_sample_size": ([SUMS, SUMS], False),
    "bounded": ([NUMBERS], False),
}
TABLES: dict[str, dict[str, Any]] = {
    "least_squares": {"x": "x", "y": "y"},
    "page_hinkley": {"order_by": "at", "x": "x", "delta": 0.5},
    "histogram_distances": {},
}
PARTS = {"polynomial", "normal_upper_tail", "z_of", "is_proportion", "wilson_bound"}


@pytest.fixture(scope="module")
def database(server: EmbeddedPostgres) -> Iterator[Connection]:
    """A connection to PostgreSQL: formulas need no tables."""
    with psycopg.connect(server.dsn, dbname="postgres", row_factory=dict_row) as connection:
        yield connection


def expression(name: str, **options: Any) -> str:
    """Macro `name` of columns that are named as its arguments."""
    return str(MACROS[name](*arguments(name), **options))


def arguments(name: str) -> tuple[str, ...]:
    macro: Any = MACROS[name]
    width = len(SCALARS[name][0])
    names: tuple[str, ...] = macro.arguments[:width]
    return names


def evaluate(database: Connection, name: str, cases: Sequence[Any], **options: Any) -> list[Any]:
    """Macro `name` of each case (a number or a tuple of them), in one query."""
    rows = [case if isinstance(case, tuple) else (case,) for case in cases]
    relation, parameters = values(arguments(name), rows)
    query = f"select {expression(name, **options)} as value from {relation} order by place"
    return [row["value"] for row in database.execute(query.encode(), parameters)]


def values(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> tuple[str, list[Any]]:
    """A relation of these rows and a column `place`, and its parameters."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    arrays = ", ".join(f"%s::{type_of(column)}[]" for column in columns)
    return f"unnest({arrays}) with ordinality as cases ({', '.join(names)}, place)", columns


def type_of(column: list[Any]) -> str:
    for known, name in ((str, "text"), (float, "double precision")):
        if any(isinstance(value, known) for value in column):
            return name
    return "bigint"


def table(
    database: Connection, name: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> list[dict[str, Any]]:
    """The rows of a CTE macro over these rows, by group `g`."""
    relation, parameters = values(names, rows)
    ctes = MACROS[name](name="result", relation="given", by=["g"], **TABLES[name])
    query = f"with given as (select * from {relation}), {ctes} select * from result"
    return database.execute(query.encode(), parameters).fetchall()


def groups(rows: Sequence[tuple[Any, ...]]) -> dict[Any, list[tuple[Any, ...]]]:
    found: dict[Any, list[tuple[Any, ...]]] = {}
    for key, *rest in rows:
        found.setdefault(key, []).append(tuple(rest))
    return found


# Every macro


def test_every_macro_is_tested() -> None:
    assert MACROS.keys() == SCALARS.keys() | TABLES.keys() | PARTS


@pytest.mark.parametrize("name", SCALARS)
def test_strange_arguments_give_null_or_a_value(database: Connection, name: str) -> None:
    domains, share = SCALARS[name]
    cases = list(itertools.product(*domains))
    for case, value in zip(cases, evaluate(database, name, cases), strict=True):
        if any(x is None or x != x for x in case):
            assert value is None, case
        if value is not None:
            assert math.isfinite(value), case
            assert not share or 0 <= value <= 1, case


@pytest.mark.parametrize("name", SCALARS)
def test_expressions_keep_the_rules_of_risingwave(name: str) -> None:
    assert raw_violations(read(name, f"select {expression(name)} as value from given")) == []


@pytest.mark.parametrize("name", TABLES)
def test_tables_keep_the_rules_of_risingwave(name: str) -> None:
    ctes = MACROS[name](name="result", relation="given", by=["g", "h"], **TABLES[name])
    assert raw_violations(read(name, f"with {ctes} select * from result")) == []


# Intervals and tests of proportions


@EXAMPLES
@given(st.lists(st.floats(-40, 40), min_size=1, max_size=200))
def test_normal(database: Connection, cases: list[float]) -> None:
    cases += [0.0, -0.0, 7.0, -7.0, 37.0, -37.5, math.inf, -math.inf]
    cdf = np.array(evaluate(database, "normal_cdf", cases))
    p = np.array(evaluate(database, "normal_p_value", cases))
    np.testing.assert_allclose(cdf, stats.norm.cdf(cases), rtol=0, atol=NORMAL)
    np.testing.assert_allclose(p, 2 * stats.norm.sf(np.abs(cases)), rtol=0, atol=2 * NORMAL)
    near = np.abs(cases) <= 7
    np.testing.assert_allclose(
        p[near], 2 * stats.norm.sf(np.abs(cases)[near]), rtol=NORMAL_TAIL, atol=0
    )


def test_normal_of_nothing_is_even(database: Connection) -> None:
    assert evaluate(database, "normal_cdf", [0.0, 1e-300]) == [0.5, 0.5]
    assert evaluate(database, "normal_p_value", [0.0, 1e-300]) == [1, 1]


counts = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
arms = st.tuples(counts, counts).map(lambda pair: (*pair[0], *pair[1]))


@EXAMPLES
@given(st.lists(counts, min_size=1, max_size=50), st.sampled_from([0.90, 0.95, 0.99]))
def test_wilson(database: Connection, cases: list[tuple[int, int]], confidence: float) -> None:
    low = evaluate(database, "wilson_low", cases, confidence=confidence)
    high = evaluate(database, "wilson_high", cases, confidence=confidence)
    expected = [stats.binomtest(k, n).proportion_ci(confidence, method="wilson") for k, n in cases]
    np.testing.assert_allclose(low, [interval.low for interval in expected], atol=ROUNDING)
    np.testing.assert_allclose(high, [interval.high for interval in expected], atol=ROUNDING)


def test_other_confidence_is_refused() -> None:
    with pytest.raises(CompilerError, match=r"confidence: 0\.90, 0\.95 or 0\.99 .*got 0\.8"):
        expression("wilson_low", confidence=0.8)
    for confidence in (0.90, 0.95, 0.99):
        z = float(MACROS["z_of"](confidence))
        assert z == pytest.approx(stats.norm.ppf((1 + confidence) / 2), abs=1e-15)


@EXAMPLES
@given(st.lists(arms, min_size=1, max_size=100))
def test_two_proportion_z(database: Connection, cases: list[tuple[int, ...]]) -> None:
    for case, z in zip(cases, evaluate(database, "two_proportion_z", cases), strict=True):
        s_a, n_a, s_b, n_b = case
        if s_a + s_b in (0, n_a + n_b):
            assert z is None
            continue
        outcomes = [[s_a, n_a - s_a], [s_b, n_b - s_b]]
        chi_square = stats.chi2_contingency(outcomes, correction=False).statistic
        assert z**2 == pytest.approx(chi_square, rel=1e-6, abs=ROUNDING)
        if abs(z) > ROUNDING:
            assert (z > 0) == (s_a * n_b > s_b * n_a)


def always_valid_p(case: Any, tau: float) -> Any:
    """The ratio of the densities of d under N(0, V) and under N(0, V + tau^2)."""
    s_a, n_a, s_b, n_b = case
    a, b, p = (s_a + 0.5) / (n_a + 1), (s_b + 0.5) / (n_b + 1), (s_a + s_b + 1) / (n_a + n_b + 2)
    unpooled = a * (1 - a) / n_a + b * (1 - b) / n_b
    variance = np.maximum(unpooled, p * (1 - p) * (1 / n_a + 1 / n_b))
    mixed = stats.norm.logpdf(a - b, scale=np.sqrt(variance + tau**2))
    return np.exp(np.minimum(stats.norm.logpdf(a - b, scale=np.sqrt(variance)) - mixed, 0))


@EXAMPLES
@given(st.lists(arms, min_size=1, max_size=100), st.sampled_from([0.01, 0.1, 0.5]))
def test_always_valid_p_value(
    database: Connection, cases: list[tuple[int, ...]], tau: float
) -> None:
    p = evaluate(database, "always_valid_p_value", cases, tau=tau)
    expected = [always_valid_p(case, tau) for case in cases]
    np.testing.assert_allclose(p, expected, rtol=EXPONENT, atol=VANISHING)


@pytest.mark.parametrize("proportion", [0.005, 0.02, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("ratio", [1, 9, 50])
def test_looking_after_every_trial_raises_few_false_alarms(proportion: float, ratio: int) -> None:
    random = np.random.default_rng(7)
    streams, looks = 300, 1000
    trials = np.arange(1, looks + 1)
    b = np.cumsum(random.random((streams, looks)) < proportion, axis=1)
    a = np.cumsum(random.binomial(ratio, proportion, (streams, looks)), axis=1)
    p = always_valid_p((a, trials * ratio, b, trials), tau=0.1)
    assert (p.min(axis=1) < 0.05).mean() <= 0.05


def test_worse_canary_is_found(database: Connection) -> None:
    ((p,), (same,)) = (
        evaluate(database, "always_valid_p_value", [case])
        for case in [(20, 1000, 60, 1000), (20, 1000, 22, 1000)]
    )
    assert p < 0.01 and same == 1


@EXAMPLES
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 10**6)), min_size=1, max_size=50))
def test_arms_and_weights(database: Connection, cases: list[tuple[float, int]]) -> None:
    total = sum(pulls for _, pulls in cases)
    bounds = evaluate(database, "ucb1", [(mean, pulls, total) for mean, pulls in cases])
    expected = [mean + math.sqrt(2 * math.log(total) / pulls) for mean, pulls in cases]
    np.testing.assert_allclose(bounds, expected, rtol=ROUNDING)
    weights = np.array([pulls for _, pulls in cases], dtype=float)
    sums = (float(weights.sum()), float((weights**2).sum()))
    (rows,) = evaluate(database, "effective_sample_size", [sums])
    assert rows == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=ROUNDING)
    assert 1 - ROUNDING <= rows <= len(cases) + ROUNDING


# Drift


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
        # Moved by whole seconds the slope is the same, and SciPy has more digits.
        line = stats.linregress(x, y)
        steepness = y.std() / x.std()
        assert row["slope"] == pytest.approx(line.slope, abs=ROUNDING * steepness)
        assert row["slope_stderr"] == pytest.approx(
            line.stderr, rel=RESIDUAL, abs=RESIDUAL * steepness
        )
        assert row["r_squared"] == pytest.approx(line.rvalue**2, abs=ROUNDING)
        predicted = row["y_mean"] + row["slope"] * (x + epoch - row["x_mean"])
        scale = np.abs(y).max() + steepness * 1e5
        np.testing.assert_allclose(
            predicted, line.intercept + line.slope * x, atol=ROUNDING * scale
        )
        assert row["intercept"] == pytest.approx(row["y_mean"] - row["slope"] * row["x_mean"])


@EXAMPLES
@given(st.lists(st.tuples(keys, st.integers(0, 10**6), measured), min_size=1, max_size=80))
def test_page_hinkley(database: Connection, drawn: list[tuple[Any, int, float | None]]) -> None:
    rows = list({row[:2]: row for row in drawn}.values())
    found = table(database, "page_hinkley", ["g", "at", "x"], rows)
    assert len(found) == sum(x is not None for _, _, x in rows)
    statistics = {(row["g"], row["at"]): row["statistic"] for row in found}
    for g, points in groups([row for row in rows if row[2] is not None]).items():
        total = m = lowest = 0.0
        for n, (at, x) in enumerate(sorted(points), start=1):
            total += x
            m += x - total / n - TABLES["page_hinkley"]["delta"]
            lowest = m if n == 1 else min(lowest, m)
            assert statistics[g, at] == pytest.approx(m - lowest, abs=RUNNING * 1e6 * len(points))


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


bin_counts = st.integers(0, 500)
histograms = st.lists(
    st.tuples(keys, st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), bin_counts, bin_counts),
    min_size=1,
    max_size=60,
    unique_by=lambda row: row[:2],
)


@EXAMPLES
@given(histograms)
def test_histogram_distances(
    database: Connection, drawn: list[tuple[Any, float, int, int]]
) -> None:
    rows = [(g, value, value, old, new) for g, value, old, new in drawn]
    names = ["g", "bin_order", "value", "reference", "current"]
    found = {row["g"]: row for row in table(database, "histogram_distances", names, rows)}
    assert found.keys() == {row[0] for row in drawn}
    for g, bins in groups(drawn).items():
        row = found[g]
        values, old, new = np.array(bins, dtype=float).T
        assert (row["reference_rows"], row["current_rows"]) == (old.sum(), new.sum())
        if not old.sum() or not new.sum():
            distances = ("ks", "wasserstein", "wasserstein_normed", "js_divergence")
            assert [row[name] for name in distances] == [None] * 4
            continue
        before, after = np.repeat(values, old.astype(int)), np.repeat(values, new.astype(int))
        gap = max(abs((before <= value).mean() - (after <= value).mean()) for value in values)
        assert row["ks"] == pytest.approx(gap, abs=ROUNDING)
        area = stats.wasserstein_distance(before, after)
        assert row["wasserstein"] == pytest.approx(area, abs=ROUNDING * 1e6)
        if len(set(before)) == 1:
            assert row["wasserstein_normed"] is None
        else:
            assert row["wasserstein_normed"] == pytest.approx(area / before.std(), rel=1e-6)
        assert row["js_divergence"] == pytest.approx(js(old, new), abs=ROUNDING)


def test_ks_equals_that_of_the_rows(database: Connection) -> None:
    random = np.random.default_rng(5)
    old, new = random.integers(0, 40, 500), random.integers(3, 45, 300)
    rows = [
        ("a", value, float(value), int((old == value).sum()), int((new == value).sum()))
        for value in range(50)
    ]
    names = ["g", "bin_order", "value", "reference", "current"]
    (row,) = table(database, "histogram_distances", names, rows)
    expected = stats.ks_2samp(old, new, method="asymp")
    assert row["ks"] == pytest.approx(expected.statistic)
    (p,) = evaluate(database, "ks_p_value", [(row["ks"], 500, 300)])
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
    for row in table(database, "histogram_distances", names, bins):
        assert 0 < row["ks"] < 1 and math.isfinite(row["wasserstein_normed"])

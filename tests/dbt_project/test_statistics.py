"""The formula macros equal SciPy, NumPy or a plain loop, and never raise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.support.always_valid import always_valid_p, holm
from tests.support.formulas import (
    EXAMPLES,
    MACROS,
    PARTS,
    SCALARS,
    TABLES,
    CompilerError,
    Connection,
    evaluate,
    expression,
    table,
)
from tests.support.risingwave_select import raw_violations, read

# The same formula in doubles, summed in another order.
ROUNDING = 1e-9
# normal_cdf: the error of Hart's ratio, absolute, and relative up to |z| = 7.
NORMAL = 4.5e-16
NORMAL_TAIL = 1e-8
# always_valid_p_value: an exponent of up to 700 carries its rounding 700 times, and stops there.
EXPONENT = 1e-7
VANISHING = 1e-300


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
@given(st.lists(counts, min_size=1, max_size=50), st.sampled_from([0.90, 0.95, 0.99, 0.999]))
def test_wilson(database: Connection, cases: list[tuple[int, int]], confidence: float) -> None:
    low = evaluate(database, "wilson_low", cases, confidence=confidence)
    high = evaluate(database, "wilson_high", cases, confidence=confidence)
    expected = [stats.binomtest(k, n).proportion_ci(confidence, method="wilson") for k, n in cases]
    np.testing.assert_allclose(low, [interval.low for interval in expected], atol=ROUNDING)
    np.testing.assert_allclose(high, [interval.high for interval in expected], atol=ROUNDING)


def test_other_confidence_is_refused() -> None:
    with pytest.raises(CompilerError, match=r"confidence: 0\.90, .* or 0\.999 .*got 0\.8"):
        expression("wilson_low", confidence=0.8)
    for confidence in (0.90, 0.95, 0.99, 0.999):
        z = float(MACROS["z_of"](confidence))
        tail = round((1 - confidence) / 2, 6)
        assert z == pytest.approx(stats.norm.isf(tail), abs=1e-15)


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


p_values = st.one_of(st.none(), st.sampled_from([0.0, 0.01, 0.02, 0.3, 1.0]), st.floats(0, 1))


@EXAMPLES
@given(st.lists(st.lists(p_values, max_size=5), min_size=1, max_size=20))
def test_holm(database: Connection, families: list[list[float | None]]) -> None:
    rows = [(g, p, str(i)) for g, family in enumerate(families) for i, p in enumerate(family)]
    found = {
        (row["g"], row["test"]): row["adjusted_p_value"]
        for row in (table(database, "holm_p_values", ["g", "p", "test"], rows) if rows else [])
    }
    for g, family in enumerate(families):
        tested = [(i, p) for i, p in enumerate(family) if p is not None]
        adjusted = dict(zip((i for i, _ in tested), holm([p for _, p in tested]), strict=True))
        for i in range(len(family)):
            want = adjusted.get(i)
            assert found[g, str(i)] == (want if want is None else pytest.approx(want))


def test_guardrails_without_an_effect_are_rarely_violated_by_any(database: Connection) -> None:
    """Three guardrails of equal arms, looked at after each 100 predictions of both."""
    random = np.random.default_rng(12)
    streams, looks, step, family = 500, 60, 100, 3
    trials = step * np.arange(1, looks + 1)
    shape = (streams, family, looks)
    b = np.cumsum(random.binomial(step, 0.5, shape), axis=2)
    a = np.cumsum(random.binomial(step, 0.5, shape), axis=2)
    p = always_valid_p((b, trials, a, trials), tau=0.1)
    rows = [
        (f"{stream} {look}", float(p[stream, test, look]), str(test))
        for stream, test, look in np.ndindex(streams, family, looks)
    ]
    found = table(database, "holm_p_values", ["g", "p", "test"], rows)
    alarmed = {row["g"].split()[0] for row in found if row["adjusted_p_value"] < 0.05}
    assert len(alarmed) <= 0.05 * streams
    assert (p.min(axis=(1, 2)) < 0.05).mean() > 0.05  # as they would be uncorrected


@pytest.mark.parametrize("planned", [0.05, 0.5])
def test_a_planned_share_is_kept_or_not(database: Connection, planned: float) -> None:
    random = np.random.default_rng(8)
    trials = np.arange(1, 101) * 200
    for share, least, most in ((planned, 0.0, 0.01), (planned * 0.75, 0.99, 1.0)):
        hits = np.cumsum(random.binomial(200, share, (100, len(trials))), axis=1)
        cases = [
            (int(h), int(n), planned) for row in hits for h, n in zip(row, trials, strict=True)
        ]
        p = np.reshape(evaluate(database, "planned_share_p_value", cases), hits.shape)
        scale = np.sqrt(planned * (1 - planned) / trials)
        d = hits / trials - planned
        wider = np.hypot(scale, 0.1 * math.sqrt(planned * (1 - planned)))
        expected = np.exp(np.minimum(
            stats.norm.logpdf(d, scale=scale) - stats.norm.logpdf(d, scale=wider), 0
        ))  # fmt: skip
        np.testing.assert_allclose(p, expected, rtol=EXPONENT, atol=VANISHING)
        assert least <= (p.min(axis=1) < 0.001).mean() <= most


def test_pairs_may_be_looked_at_after_each(database: Connection) -> None:
    """McNemar's test of a shadow that is as good: half of those that one of two got right."""
    right = np.cumsum(np.random.default_rng(9).random((100, 300)) < 0.5, axis=1)
    cases = [(int(b), m, 0.5) for row in right for m, b in enumerate(row, start=1)]
    p = np.reshape(evaluate(database, "planned_share_p_value", cases), right.shape)
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

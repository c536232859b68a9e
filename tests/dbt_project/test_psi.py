"""What decides that something moved: no healthy model is halted, and every shift is seen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headrace.settings import project_path
from tests.support.distances import chi_square_moments, chi_square_third, distances, number_bins
from tests.support.formulas import EXAMPLES, MACROS, Connection, evaluate, groups, table, values
from tests.support.number_buckets import finest_buckets

Counts = Any  # of numpy: a row a look, a column a bin
# The same formula in doubles, summed in another order.
ROUNDING = 1e-9
# chi_square_p_value: its roots are only nearly normal, worst at half a degree.
CHI_SQUARE = 0.07
ALPHA, MOVING, ALERT, HALT = 0.0005, 0.1, 0.25, 1.0


def defaults() -> dict[str, str]:
    text = (project_path("sql") / "policies.csv").read_text()
    return dict(line.split(",")[0::2][:2] for line in text.splitlines()[1:])


def test_the_thresholds_here_are_those_that_come_with_headrace() -> None:
    policies = defaults()
    names = ("drift_alpha", "psi_alert", "psi_halt")
    assert [float(policies[name]) for name in names] == [ALPHA, ALERT, HALT]


# The macros equal a plain recompute

counted = st.integers(0, 30)


@EXAMPLES
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]), st.sampled_from([*"pqrstuv", None]), counted, counted
        ),
        min_size=1,
        max_size=16,
        unique_by=lambda row: row[:2],
    ),
    st.integers(1, 40),
)
def test_distances(database: Connection, drawn: list[Any], factor: int) -> None:
    rows = [(g, name, old * factor, new) for g, name, old, new in drawn]
    names = ["g", "bin", "reference", "current"]
    found = {row["g"]: row for row in table(database, "category_distances", names, rows)}
    expected = groups([row for row in rows if row[2] + row[3]])
    assert found.keys() == expected.keys()
    for g, bins in expected.items():
        old = [name for name, count, _ in bins for _ in range(count)]
        new = [name for name, _, count in bins for _ in range(count)]
        for name, value in distances(old, new).items():
            tolerance = CHI_SQUARE if name == "p_value" else ROUNDING
            assert found[g][name] == pytest.approx(value, abs=tolerance), (name, bins)


numbers = st.integers(0, 12) | st.integers(-400, 400)


@EXAMPLES
@given(st.lists(numbers, max_size=60), st.lists(numbers, max_size=30), st.integers(1, 3))
def test_number_bins(database: Connection, old: list[int], new: list[int], times: int) -> None:
    old = old * times
    expected = zip(("reference", "current"), number_bins(old, new), strict=True)
    wanted = {name: {place: side.count(place) for place in side} for name, side in expected}
    found = binned(database, [(old, new)])
    for name, places in wanted.items():
        assert {row["bin"]: row[name] for row in found if row[name]} == places


def binned(database: Connection, looks: Sequence[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Rows g, bin, reference and current of pairs of samples of buckets."""
    rows = [
        (g, place, place, int(np.count_nonzero(old == place)), int(np.count_nonzero(new == place)))
        for g, (old, new) in enumerate((np.array(a), np.array(b)) for a, b in looks)
        for place in np.unique(np.concatenate([old, new])).tolist()
    ]
    if not rows:
        return []
    names = ["g", "bucket", "value", "reference", "current"]
    return table(database, "binned_numbers", names, rows)


@pytest.mark.parametrize("margins", [(3, 4, [2, 2, 3]), (2, 6, [1, 1, 2, 4]), (5, 4, [1, 3, 5])])
def test_moments_of_chi_square(margins: tuple[int, int, list[int]]) -> None:
    n, m, sums = margins
    rows = [name for name, count in enumerate(sums) for _ in range(count)]
    found = []
    for chosen in itertools.combinations(range(len(rows)), n):
        side = np.bincount([rows[place] for place in chosen], minlength=len(sums))
        other = np.array(sums) - side
        found.append(float(((side / n - other / m) ** 2 * n * m / np.array(sums)).sum()))
    table_ = np.array([np.bincount(rows[:n], minlength=len(sums)), [0] * len(sums)], dtype=float)
    table_[1] = np.array(sums) - table_[0]
    assert chi_square_moments(table_) == pytest.approx((np.mean(found), np.var(found)))


@pytest.mark.parametrize(("n", "m"), [(100, 10_000), (1000, 100), (500, 500)])
@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_third_cumulant_of_chi_square(database: Connection, kind: str, n: int, m: int) -> None:
    rng = np.random.default_rng(16)
    sums = rng.multinomial(n + m, shares(kind, 40))
    side = rng.multivariate_hypergeometric(sums, n, 200_000)
    found = ((side / n - (sums - side) / m) ** 2 * n * m / sums).sum(axis=1)
    case = (len(sums), float((1 / sums).sum()), float((1 / sums**2).sum()), n, m)
    (third,) = evaluate(database, "chi_square_third", [case])
    assert stats.skew(found) == pytest.approx(third / found.std() ** 3, rel=0.1)
    assert third == pytest.approx(chi_square_third(np.array([sums * n, sums * m]) / (n + m)))


# What is decided by them

SIZES = [(100, 100), (100, 1000), (1000, 100), (5000, 100), (100, 5000), (1000, 1000)]
LOOKS = 100  # docs/operating.md has figures of 2,000


def shares(kind: str, classes: int) -> Any:
    weights = np.ones(classes) if kind == "uniform" else 1 / np.arange(1, classes + 1)
    return weights / weights.sum()


def look(database: Connection, old: Counts, new: Counts) -> list[dict[str, Any]]:
    """Measure classes: one row a look."""
    rows = [
        (g, place, *pair)
        for g, sides in enumerate(zip(old.tolist(), new.tolist(), strict=True))
        for place, pair in enumerate(zip(*sides, strict=True))
    ]
    return table(database, "category_distances", ["g", "bin", "reference", "current"], rows)


def look_at_numbers(database: Connection, looks: Iterator[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Measure samples of numbers: one row a look."""
    buckets = [
        [[bucket.lowest for bucket in side] for side in finest_buckets(*(s.tolist() for s in pair))]
        for pair in looks
    ]
    rows = [
        (row["g"], row["bin"], int(row["reference"]), int(row["current"]))
        for row in binned(database, [(a, b) for a, b in buckets])
    ]
    return table(database, "category_distances", ["g", "bin", "reference", "current"], rows)


def passed(found: list[dict[str, Any]], threshold: float) -> float:
    """The share of looks that pass it, as drift_status has it."""
    return float(np.mean([is_over(row, threshold) for row in found]))


def is_over(row: dict[str, Any], threshold: float, tests: int = 1) -> bool:
    return (
        row["p_value"] is not None
        and row["p_value"] < ALPHA / tests
        and row["psi_excess"] >= threshold
    )


@pytest.mark.parametrize("kind", ["uniform", "zipf"])
def test_classes_that_do_not_change_are_left_alone(database: Connection, kind: str) -> None:
    rng = np.random.default_rng(11)
    alerts, naive = [], []
    for classes, (n, m) in itertools.product((2, 10, 77, 150, 300), SIZES):
        p = shares(kind, classes)
        found = look(database, rng.multinomial(n, p, LOOKS), rng.multinomial(m, p, LOOKS))
        assert passed(found, HALT) == 0, (classes, n, m)
        alerts.append(passed(found, ALERT))
        assert alerts[-1] <= 0.02, (classes, n, m)
        naive.append(np.mean([row["psi"] >= HALT for row in found]))
    assert np.mean(alerts) <= 0.003
    # What it would be without: the textbook's index of 300 classes, 100 rows a side.
    assert kind == "zipf" or naive[4 * len(SIZES)] > 0.7


@pytest.mark.parametrize("sizes", [(100, 10_000), (1000, 100), (100, 100)])
def test_models_of_many_features_that_do_not_change_are_left_alone(
    database: Connection, sizes: tuple[int, int]
) -> None:
    rng, p, features, models = np.random.default_rng(17), shares("zipf", 50), 50, 200
    old, new = (rng.multinomial(rows, p, features * models) for rows in sizes)
    found = sorted(look(database, old, new), key=lambda row: row["g"])
    wrong = {tests: [is_over(row, MOVING, tests) for row in found] for tests in (1, features)}
    by_model = {t: np.reshape(looks, (models, features)).any(axis=1) for t, looks in wrong.items()}
    assert by_model[features].mean() <= 0.01
    assert by_model[1].mean() > 0.01
    # Where many features are looked at, p-values count that are far below drift_alpha.
    assert np.mean([row["p_value"] < 1e-4 for row in found]) <= 3e-4


def shifts(kind: str, classes: int) -> Iterator[tuple[str, Any, Any, float]]:
    """What happens, the shares before and after, and from which threshold on it is to be seen."""
    p = shares(kind, classes)
    yield "a new class has half", np.append(p, 0), np.append(p / 2, 0.5), HALT
    yield "all are one class", p, np.eye(classes)[classes // 2], HALT
    if kind == "zipf":
        yield "the common are rare", p, p[::-1], HALT if classes > 2 else ALERT
        yield "the most common is gone", p, np.where(p == p[0], 0, p) / (1 - p[0]), ALERT


@pytest.mark.parametrize("kind", ["uniform", "zipf"])
@pytest.mark.parametrize("sizes", [(1000, 1000), (5000, 1000), (200, 5000)])
def test_shifts_of_classes_are_seen(
    database: Connection, kind: str, sizes: tuple[int, int]
) -> None:
    rng = np.random.default_rng(12)
    for classes in (2, 10, 77, 150, 300):
        for name, before, after, threshold in shifts(kind, classes):
            old, new = (
                rng.multinomial(rows, share, 20)
                for rows, share in zip(sizes, (before, after), strict=True)
            )
            assert passed(look(database, old, new), threshold) >= 0.9, (name, classes)


def test_50_to_50_becoming_80_to_20_is_seen(database: Connection) -> None:
    rng = np.random.default_rng(13)
    for n, m in ((200, 200), (1000, 200), (200, 5000), (1000, 1000)):
        old, new = rng.multinomial(n, [0.5, 0.5], 40), rng.multinomial(m, [0.8, 0.2], 40)
        assert passed(look(database, old, new), ALERT) >= 0.8, (n, m)


Draw = Callable[[Any, int], Any]
SAMPLES: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "narrow": lambda rng, n: rng.normal(100, 1, n),
    "latitudes": lambda rng, n: rng.normal(48.137, 0.01, n),
    "years": lambda rng, n: rng.integers(2015, 2025, n),
    "wide": lambda rng, n: rng.lognormal(0, 2, n),
    "share": lambda rng, n: rng.random(n),
    "few whole numbers": lambda rng, n: rng.poisson(3, n),
    "many whole numbers": lambda rng, n: rng.integers(18, 90, n),
    "codes": lambda rng, n: rng.integers(1, 21, n),
    "flag": lambda rng, n: rng.random(n) < 0.95,
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.7, 0, rng.lognormal(3, 1, n)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_numbers_that_do_not_change_are_left_alone(database: Connection, name: str) -> None:
    rng, draw = np.random.default_rng(14), SAMPLES[name]
    for n, m in ((100, 100), (100, 1000), (1000, 100)):
        looks = ((draw(rng, n) * 1.0, draw(rng, m) * 1.0) for _ in range(60))
        found = look_at_numbers(database, looks)
        assert passed(found, HALT) == 0
        assert passed(found, ALERT) <= 0.02, (n, m)


def of(numbers: Sequence[float], p: Sequence[float] | None = None) -> Draw:
    return lambda rng, n: rng.choice(np.array(numbers, dtype=float), n, p=p)


CHANGES: dict[str, tuple[Draw, Draw, float]] = {
    "a constant becomes another": (of([3]), of([1]), HALT),
    "a constant becomes a greater one": (of([1]), of([1000]), HALT),
    "all certain, then all 0": (of([0.9999]), of([0]), HALT),
    "a constant begins to vary": (of([3]), lambda rng, n: rng.normal(3, 1, n), HALT),
    "a value between two": (of([1, 5]), of([1, 3]), HALT),
    "numbers between two": (
        of([1, 100]),
        lambda rng, n: np.where(rng.random(n) < 0.5, 1, rng.uniform(20, 90, n)),
        HALT,
    ),
    "0 becomes -1 for most": (
        lambda rng, n: np.where(rng.random(n) < 0.7, 0, rng.integers(1, 121, n)),
        lambda rng, n: np.where(rng.random(n) < 0.7, -1, rng.integers(1, 121, n)),
        HALT,
    ),
    "a flag turns round": (of([0, 1], [0.05, 0.95]), of([0, 1], [0.95, 0.05]), HALT),
    "within the lowest tenth": (
        of([1, 2, 3], [0.05, 0.04, 0.91]),
        of([1, 2, 3], [0.91, 0.04, 0.05]),
        HALT,
    ),
    "codes between all codes": (of(range(10, 210, 10)), of(range(15, 215, 10)), HALT),
    "every other code is gone": (of(range(1, 21)), of(range(1, 21, 2)), ALERT),
    "by one deviation": (SAMPLES["normal"], lambda rng, n: rng.normal(1, 1, n), ALERT),
    "above all": (SAMPLES["normal"], lambda rng, n: rng.normal(20, 1, n), HALT),
    "below all": (SAMPLES["normal"], lambda rng, n: rng.normal(-20, 1, n), HALT),
    "a fifth far above": (
        SAMPLES["normal"],
        lambda rng, n: np.where(rng.random(n) < 0.2, rng.lognormal(5, 2, n), rng.normal(size=n)),
        ALERT,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_of_numbers_are_seen(database: Connection, name: str) -> None:
    rng, (before, after, threshold) = np.random.default_rng(15), CHANGES[name]
    for n, m in ((400, 400), (1000, 200), (200, 1000)):
        looks = ((before(rng, n), after(rng, m)) for _ in range(20))
        assert passed(look_at_numbers(database, looks), threshold) >= 0.9, (n, m)


def test_what_chance_adds_is_what_the_textbook_says_where_bins_are_filled(
    database: Connection,
) -> None:
    relation, parameters = values(["rows"], [(20_000,)] * 10)
    chance = MACROS["psi_chance"]("rows", "80000", "120000", "10")
    query = f"select sum({chance}) as value from {relation}"
    found = database.execute(query.encode(), parameters).fetchone()
    assert found is not None
    assert found["value"] == pytest.approx(9 * (1 / 80_000 + 1 / 120_000), rel=0.001)

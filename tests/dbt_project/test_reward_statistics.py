"""What the comparison of two versions promises, simulated on the macro itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.support.formulas import MACROS, Connection, values
from tests.support.units import design_effects

RUNS, LOOKS = 200, 40
Counts = Sequence[tuple[int, str, bool, int, float, float]]
UnitCounts = Sequence[tuple[int, str, bool, int, float, float, str, int]]


def compare(database: Connection, rows: Counts) -> list[dict[str, Any]]:
    """compared_rewards of rows (g, stratum, is_base, labels, reward, reward_squared)."""
    return compare_units(database, [(*row, "", 0) for row in rows])


def compare_units(database: Connection, rows: UnitCounts) -> list[dict[str, Any]]:
    """The same of rows that go on (..., unit_group, known)."""
    names = ("g", "stratum", "base", "labels", "reward", "squares", "unit_group", "known")
    relation, parameters = values(names, [(*r[:2], int(r[2]), *r[3:]) for r in rows])
    ctes = MACROS["compared_rewards"](
        name="result", relation="given", by=["g"], base="base", units="given"
    )
    query = (
        "with given as (select g, stratum, base = 1 as is_base, unit_group, known, labels, "
        "labels as examples, 0.05 as alpha, reward::numeric as reward, "
        f"squares::numeric as reward_squared from {relation}), {ctes} "
        "select * from result order by g"
    )
    return database.execute(query.encode(), parameters).fetchall()


def streams(
    database: Connection, rates: tuple[float, float], sizes: tuple[int, int], seed: int
) -> list[list[dict[str, Any]]]:
    """Rows of RUNS streams of shares, each looked at LOOKS times, after `sizes` more labels."""
    random = np.random.default_rng(seed)
    hits = [
        np.cumsum(random.binomial(size, rate, (RUNS, LOOKS)), axis=1)
        for size, rate in zip(sizes, rates, strict=True)
    ]
    rows = compare(database, [
        (run * LOOKS + look, "", side == 1, size * (look + 1), hits[side][run, look],
         hits[side][run, look])
        for run in range(RUNS) for look in range(LOOKS) for side, size in enumerate(sizes)
    ])  # fmt: skip
    return [rows[run * LOOKS : (run + 1) * LOOKS] for run in range(RUNS)]


def promoted(looks: list[dict[str, Any]], loss: float) -> bool:
    """Whether any look says "no loss", as canary_verdict does."""
    return any(row["always_valid_low"] > -loss * row["base_mean_reward"] for row in looks)


@pytest.mark.parametrize("sizes", [(500, 500), (100, 900)])
@pytest.mark.parametrize("rates", [(0.01, 0.02), (0.45, 0.5), (0.81, 0.9)])
def test_a_loss_is_not_called_none(
    database: Connection, rates: tuple[float, float], sizes: tuple[int, int]
) -> None:
    """A canary that loses a tenth, or half, of the reward is promoted in few streams."""
    found = streams(database, rates, sizes, seed=3)
    assert np.mean([promoted(looks, 0.1) for looks in found]) <= 0.05


@pytest.mark.parametrize("sizes", [(500, 500), (100, 900)])
def test_no_loss_is_found(database: Connection, sizes: tuple[int, int]) -> None:
    found = streams(database, (0.9, 0.9), sizes, seed=4)
    assert np.mean([promoted(looks, 0.1) for looks in found]) >= 0.95


@pytest.mark.parametrize("rate", [0.01, 0.5])
def test_the_interval_holds_at_all_looks(database: Connection, rate: float) -> None:
    found = streams(database, (rate, rate), (20, 180), seed=5)
    missed = [
        any(not row["always_valid_low"] <= 0 <= row["always_valid_high"] for row in looks)
        for looks in found
    ]
    assert np.mean(missed) <= 0.05
    for row in (row for looks in found for row in looks):
        excludes = not row["always_valid_low"] <= 0 <= row["always_valid_high"]
        assert excludes == (row["always_valid_p_value"] < 0.05)


def test_days_are_compared_apart(database: Connection) -> None:
    """.05 better on both days, .2 worse together: the base has the good day (Simpson 1951)."""
    (row,) = compare(database, [
        (1, "a", False, 300, 195, 195), (1, "a", True, 5000, 3000, 3000),
        (1, "b", False, 5000, 1250, 1250), (1, "b", True, 300, 60, 60),
    ])  # fmt: skip
    assert row["mean_reward"] < row["base_mean_reward"]
    assert row["difference"] == pytest.approx(0.05)
    assert row["difference_low"] < 0.05 < row["difference_high"]
    assert row["p_value"] < 0.05


@pytest.mark.parametrize(("a", "b"), [(1, 1), (3, 30)])
def test_sparse_days_raise_few_false_alarms(database: Connection, a: int, b: int) -> None:
    """A label or few a day, of days that differ: the Mantel-Haenszel test keeps its size."""
    random = np.random.default_rng(6)
    runs, days = 400, 60
    rows = []
    for run in range(runs):
        for day in range(days):
            rate = random.beta(2, 2)
            for is_base, size in ((False, a), (True, b)):
                hits = int(random.binomial(size, rate))
                rows.append((run, str(day), is_base, size, hits, hits))
    found = compare(database, rows)
    assert 0.02 <= np.mean([row["p_value"] < 0.05 for row in found]) <= 0.08
    assert np.mean([row["always_valid_p_value"] < 0.05 for row in found]) <= 0.05


def visits(
    random: np.random.Generator, users: int, spread: float, days: int = 7, sticky: bool = True
) -> Any:
    """(user, day, is_base, click) of users who come 20 times: beta(0.3, 0.7) / spread."""
    rates = random.beta(0.3 / spread, 0.7 / spread, users) if spread else np.full(users, 0.3)
    user = np.repeat(np.arange(users), random.poisson(20, users))
    side = random.random(users)[user] if sticky else random.random(len(user))
    day = random.integers(0, days, len(user))
    return user, day, side < 0.5, (random.random(len(user)) < rates[user]).astype(float)


def cells(run: int, groups: Any, day: Any, is_base: Any, reward: Any) -> UnitCounts:
    """The sums that unit_panes has."""
    places, inverse = np.unique(groups * 2000 + day * 2 + is_base, return_inverse=True)
    sums = [np.bincount(inverse, weights) for weights in (None, reward, reward**2)]
    return [
        (
            run,
            str(p % 2000 // 2),
            bool(p % 2),
            int(n),
            float(r),
            float(square),
            str(p // 2000),
            int(n),
        )
        for p, n, r, square in zip(places, *sums, strict=True)
    ]


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_design_effects(database: Connection, scale: float) -> None:
    """Equal to those of each row, by least squares; of rewards of any size."""
    random = np.random.default_rng(12)
    rows: list[Any] = []
    wanted = []
    for run in range(30):
        user, day, is_base, click = visits(
            random, int(random.integers(4, 200)) // 4, 1, int(random.integers(1, 9)), run % 2 == 0
        )
        reward = click * scale
        groups = random.integers(0, 64, user.max() + 1)[user]
        rows += cells(run, groups, day, is_base, reward)
        wanted.append(design_effects(day, is_base, groups, reward))
    for row, want in zip(compare_units(database, rows), wanted, strict=True):
        assert row["unit_groups"] == pytest.approx(want.unit_groups, rel=1e-9)
        assert (row["design_effect"] or 0) == pytest.approx(want.difference or 0, rel=1e-9)
        for name, effect in (("", want.side), ("base_", want.base)):
            bounds = [row[f"{name}mean_reward_{side}"] for side in ("low", "high")]
            assert (None in bounds) == (effect is None)
        assert (row["p_value"] is None) == (want.difference is None)
    assert any(want.difference is None for want in wanted)


@pytest.mark.parametrize(
    ("users", "spread", "sticky", "most"),
    [(200, 1, True, None), (500, 1, True, None), (40, 1, True, None), (200, 1, False, 1.06),
     (400, 0, True, 1.05)],
)  # fmt: skip
def test_intervals_count_people(
    database: Connection, users: int, spread: float, sticky: bool, most: float | None
) -> None:
    """Of 200 comparisons of equals, about 95 % of the intervals cover 0."""
    random = np.random.default_rng(13)
    rows: list[Any] = []
    for run in range(RUNS):
        user, *visit = visits(random, users, spread, sticky=sticky)
        if not spread:  # every visit is another user's
            user = np.arange(len(user))
        rows += cells(run, random.integers(0, 64, user.max() + 1)[user], *visit)
    counted = compare_units(database, [(*row[:7], 0) for row in rows])
    found = compare_units(database, rows)
    covered = np.mean([row["difference_low"] <= 0 <= row["difference_high"] for row in found])
    assert 0.91 <= covered <= 0.99
    assert np.mean([row["p_value"] < 0.05 for row in found]) <= 0.09
    alone = np.mean([row["difference_low"] <= 0 <= row["difference_high"] for row in counted])
    wider = np.mean([a["difference_high"] - a["difference_low"] for a in found]) / np.mean(
        [a["difference_high"] - a["difference_low"] for a in counted]
    )
    assert wider <= most if most else alone < 0.6


@pytest.mark.parametrize(("users", "spread"), [(200, 1), (40, 1), (400, 0.05)])
def test_looking_often_counts_people(database: Connection, users: int, spread: float) -> None:
    """Of equals, looked at 10 times as users come back, few are ever called different."""
    random = np.random.default_rng(14)
    looks, streams = 10, 100
    rows: list[Any] = []
    for run in range(streams):
        user, day, *rest = visits(random, users, spread)
        groups = random.integers(0, 64, user.max() + 1)[user]
        order = random.permutation(len(user))
        day = np.sort(day)
        visit = [groups[order], day, *(column[order] for column in rest)]
        for look in range(looks):
            upto = len(user) * (look + 1) // looks
            rows += cells(run * looks + look, *(column[:upto] for column in visit))
    found = compare_units(database, rows)
    p = [row["always_valid_p_value"] for row in found]
    wrong = np.array([x is not None and x < 0.05 for x in p]).reshape(streams, looks)
    assert wrong.any(axis=1).mean() <= 0.05


def test_few_users_tell_nothing(database: Connection) -> None:
    """Nor does one who makes most of the rows."""
    many = [(1, "a", base, 10, 5, 5, f"{g:02d}", 10) for base in (True, False) for g in range(40)]
    few = [(2, *row[1:]) for row in many if int(row[6]) < 7]
    heavy = [
        (3, *row[1:3], *((1000, 500, 500) if row[6] == "00" else row[3:6]), *row[6:])
        for row in many
    ]
    enough, *others = compare_units(database, [*many, *few, *heavy])
    assert enough["unit_groups"] == 40 and enough["design_effect"] == 1
    for row in others:
        assert row["unit_groups"] < 8 and row["difference"] == 0
        told = ("design_effect", "z", "p_value", "always_valid_p_value", "always_valid_low")
        assert {row[name] for name in (*told, "difference_low", "mean_reward_low")} == {None}

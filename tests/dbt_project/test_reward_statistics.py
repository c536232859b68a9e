"""What the comparison of two versions promises, simulated on the macro itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.support.formulas import MACROS, Connection, values

RUNS, LOOKS = 200, 40
Counts = Sequence[tuple[int, str, bool, int, float, float]]


def compare(database: Connection, rows: Counts) -> list[dict[str, Any]]:
    """compared_rewards of rows (g, stratum, is_base, examples, reward, reward_squared)."""
    names = ("g", "stratum", "is_base", "examples", "reward", "reward_squared")
    relation, parameters = values(names, [(*r[:2], int(r[2]), *r[3:]) for r in rows])
    ctes = MACROS["compared_rewards"](name="result", relation="given", by=["g"], base="base")
    query = (
        "with given as (select g, stratum, is_base = 1 as is_base, 0.05 as alpha, examples, "
        f"reward::numeric, reward_squared::numeric from {relation}), {ctes} "
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

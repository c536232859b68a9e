"""How likely each canary is the best version: the view against draws and plain quadrature."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from headrace.engine import Engine

Z95 = 1.959963984540054
Canary = tuple[int, int, float, float]  # labels of both sides, difference, its standard error


@pytest.fixture(scope="module")
def select(template: Any) -> str:
    """The compiled SELECT, whose inputs are CTEs that a test gives."""
    folder: Path = template.folder.parent / "dbt" / "target" / "compiled"
    (path,) = folder.rglob("marts/canary_odds.sql")
    text = path.read_text()
    for name in ("canary_verdict", "model_policies"):
        found = f'"headrace"."headrace"."{name}"'
        assert text.count(found) == 1
        text = text.replace(found, f"given_{name}")
    return text


def odds(
    engine: Engine, select: str, models: list[list[Canary]]
) -> dict[tuple[str, str], float | None]:
    verdicts = [
        f"('{model}', 'v{place}', 'v', 'continue', 'undecided', {n}, {n}, {m}, 'mean', 1, 1,"
        f" {d!r}::float, {d - Z95 * se!r}::float, {d + Z95 * se!r}::float)"
        for model, canaries in enumerate(models)
        for place, (n, m, d, se) in enumerate(canaries)
    ]
    rows = engine.rows(
        "with given_canary_verdict (model, model_version, champion_version, verdict, reason,"
        " predictions, labels, champion_labels, measure, mean_reward, champion_mean_reward,"
        " difference, difference_low, difference_high) as (values "
        + ", ".join(verdicts)
        + "), given_model_policies as (select distinct model, 2 as min_sample"
        " from given_canary_verdict) select * from (" + select + ") as odds"
    )
    return {(row["model"], row["model_version"]): row["best_probability"] for row in rows}


def chances(canaries: list[Canary]) -> list[float]:
    """The same by quadrature over 400,000 values of the best one's reward."""
    champion = min(se * se * n / (n + m) for n, m, _, se in canaries)
    arms = [(0.0, math.sqrt(champion))]
    arms += [(d, math.sqrt(se * se - champion)) for _, _, d, se in canaries]
    x = np.linspace(min(m - 9 * s for m, s in arms), max(m + 9 * s for m, s in arms), 400_001)
    below = np.array([norm.logcdf((x - m) / s) for m, s in arms])
    found = []
    for place, (mean, sd) in enumerate(arms):
        others = below.sum(0) - below[place]
        found.append(float(np.trapezoid(np.exp(others) * norm.pdf((x - mean) / sd) / sd, x)))
    assert sum(found) == pytest.approx(1, abs=1e-6)
    return found[1:]


def test_the_view_is_the_integral(engine: Engine, select: str) -> None:
    rng = random.Random(3)
    models = [
        [
            (rng.randint(2, 5_000), rng.randint(2, 5_000), rng.gauss(0, 0.02), se)
            for se in [math.exp(rng.uniform(-5, -3)) for _ in range(1 + model % 4)]
        ]
        for model in range(40)
    ]
    found = odds(engine, select, models)
    for model, canaries in enumerate(models):
        for place, want in enumerate(chances(canaries)):
            assert found[str(model), f"v{place}"] == pytest.approx(want, abs=1e-6), canaries


def test_of_one_canary_it_is_the_normal_distribution(engine: Engine, select: str) -> None:
    cases = [(n, 1_000, z * 0.01, 0.01) for n in (10, 1_000, 40_000) for z in (-30, -3, 0, 1, 4)]
    found = odds(engine, select, [[case] for case in cases])
    for model, (_, _, difference, stderr) in enumerate(cases):
        want = norm.cdf(difference / stderr)
        assert found[str(model), "v0"] == pytest.approx(want, abs=1e-9)


def test_what_cannot_be_compared_takes_no_part(engine: Engine, select: str) -> None:
    """Also where another canary of its model can be."""
    alone, few = (100, 100, 0.1, 0.1), [(1, 100, 0.2, 0.1), (100, 1, 0.2, 0.1), (9, 9, 0.2, 0.0)]
    found = odds(engine, select, [[alone, one] for one in few])
    for model in range(len(few)):
        assert found[str(model), "v0"] == pytest.approx(norm.cdf(1), abs=1e-9)
        assert found[str(model), "v1"] is None


def test_it_is_how_often_draws_are_the_best(engine: Engine, select: str) -> None:
    """Three canaries of one champion: means of 500, 1,000, 2,000 rewards, and 1,500 of its own."""
    rng = np.random.default_rng(0)
    sizes, means = [1_500, 500, 1_000, 2_000], [0.0, 0.02, 0.03, 0.01]
    draws = rng.normal(means, 1 / np.sqrt(sizes), (200_000, 4))
    best = np.bincount(draws.argmax(1), minlength=4) / len(draws)
    canaries = [
        (n, sizes[0], mean, math.sqrt(1 / n + 1 / sizes[0]))
        for n, mean in zip(sizes[1:], means[1:], strict=True)
    ]
    found = odds(engine, select, [canaries])
    assert [found["0", f"v{place}"] for place in range(3)] == pytest.approx(best[1:], abs=0.005)

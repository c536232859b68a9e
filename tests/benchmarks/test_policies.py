"""The log of two policies, as events and as numbers."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from benchmarks.load import send
from benchmarks.policies import ITEMS, Case, Logs, Shown, distance, events, propensities
from headrace.engine import Engine
from headrace.events.log import EventLog
from tests.support.streams import START

CAMPAIGN, ROWS = "men", 2_000


@pytest.fixture(scope="module")
def logs() -> Logs:
    """BTS shows the first items ten times as often as the others, and people click on them."""
    rng = random.Random(5)
    items = range(ITEMS[CAMPAIGN])
    weights = {"random": [1.0] * len(items), "bts": [10.0 if item < 5 else 1.0 for item in items]}
    return {
        (CAMPAIGN, policy): [
            Shown(
                START + timedelta(seconds=number), str(item), rng.randint(1, 3),
                weights[policy][item] / sum(weights[policy]),
                rng.random() < (0.5 if item < 5 else 0.1),
            )
            for number, item in enumerate(rng.choices(items, weights[policy], k=ROWS))
        ]
        for policy in weights
    }  # fmt: skip


def test_each_policy_is_valued_by_the_log_of_the_other(engine: Engine, logs: Logs) -> None:
    cases = [Case(CAMPAIGN, one, other) for one in ("random", "bts") for other in ("random", "bts")]
    with EventLog(engine) as log:
        for case in cases:
            send(log, *events(case, logs))
    query = "select * from headrace.target_policy_value where breakdown = 'model'"
    told = {row["model"]: row for row in engine.rows(query)}
    for case in cases:
        row = told[case.model]
        assert distance(case, logs, row) < 1e-6
        earned = told[case._replace(logging=case.target).model]["mean_reward"]
        assert abs(row["snips"] - earned) < 4 * row["snips_stderr"] + 1e-9
    assert (
        told["men, bts by bts"]["mean_reward"] > 1.5 * told["men, random by random"]["mean_reward"]
    )


def test_how_often_the_other_policy_shows_an_item(logs: Logs) -> None:
    case = Case(CAMPAIGN, "random", "bts")
    chances = propensities(case, logs)
    of_place: dict[int, dict[str, float]] = {}
    for row, chance in zip(logs[CAMPAIGN, "random"], chances, strict=True):
        of_place.setdefault(row.position, {})[row.item] = chance
    assert [sum(items.values()) for items in of_place.values()] == pytest.approx([1, 1, 1])

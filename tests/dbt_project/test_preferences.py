"""Preferences between versions: a naive recompute, and the likeliest strengths."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from msgspec import structs
from scipy.optimize import minimize

from headrace.engine import Engine
from headrace.events.contract import Inference, parse
from headrace.events.log import EventLog
from tests.dbt_project.test_views import MICRO, SKETCH, close, empty, log  # noqa: F401
from tests.support.oracle import Oracle, utc
from tests.support.rewards import (
    EXAMPLES,
    Story,
    recent,
    same,
    stories,
    wilson,
)
from tests.support.streams import START, send

# ln strength: what twenty steps are short of the greatest likelihood, for five versions that all
# met each other, or all met one of them.
STEPS = 20
UNFINISHED = 1e-3


def preferences(oracle: Oracle) -> dict[str, Counter[tuple[str, str]]]:
    """How often one version was preferred to another one, by model."""
    wins: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for event in oracle.feedback.values():
        preferred = oracle.inference.get(event.request_id)
        rejected = oracle.inference.get(event.rejected_request_id or "")
        if (
            preferred is not None
            and rejected is not None
            and preferred.model == rejected.model
            and preferred.model_version != rejected.model_version
            and recent(oracle, preferred.model, utc(event.event_time))
        ):
            wins[preferred.model][preferred.model_version, rejected.model_version] += 1
    return wins


def with_many_versions(story: Story) -> Story:
    """The story with one of five versions for every request."""
    story.stream.batches = [
        [
            (topic, structs.replace(event, model_version=f"v{int(event.request_id[1:]) % 5}"))
            if isinstance(event, Inference)
            else (topic, event)
            for topic, event in batch
        ]
        for batch in story.stream.batches
    ]
    return story


def strengths(wins: Counter[tuple[str, str]], steps: int) -> dict[str, float]:
    """Halved steps over all pairs that met, with half a win for either side."""
    names = sorted({name for pair in wins for name in pair})
    met = [(a, b) for a in names for b in names if wins[a, b] + wins[b, a] > 0]
    strength = dict.fromkeys(names, 1.0)
    for _ in range(steps):
        up, down = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for a, b in met:
            up[a] += (wins[a, b] + 0.5) * strength[b] / (strength[a] + strength[b])
            down[a] += (wins[b, a] + 0.5) / (strength[a] + strength[b])
        strength = {a: math.sqrt(strength[a] * up[a] / down[a]) for a in names}
    middle = math.exp(sum(map(math.log, strength.values())) / len(names))
    return {name: value / middle for name, value in strength.items()}


@EXAMPLES
@given(story=stories().map(with_many_versions))
def test_preference_winrate(engine: Engine, log: EventLog, story: Story) -> None:  # noqa: F811
    empty(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.preference_winrate")
        actual = {(row["model"], row["model_version"]): row for row in rows}
        assert len(actual) == len(rows)
        wanted = {}
        for model, wins in preferences(oracle).items():
            for name, strength in strengths(wins, STEPS).items():
                won = sum(count for (a, _), count in wins.items() if a == name)
                lost = sum(count for (_, b), count in wins.items() if b == name)
                low, high = wilson(won, won + lost)
                wanted[model, name] = {
                    "opponents": len({x for pair in wins if name in pair for x in pair}) - 1,
                    "comparisons": won + lost,
                    "wins": won,
                    "losses": lost,
                    "win_rate": won / (won + lost),
                    "win_rate_low": low,
                    "win_rate_high": high,
                    "strength": strength,
                }
        assert actual.keys() == wanted.keys()
        for key, want in wanted.items():
            same(actual[key], want)

    story.tell(log, check)


@pytest.mark.parametrize("everybody_met", [True, False])
def test_strength_is_the_likeliest(engine: Engine, everybody_met: bool) -> None:
    """Five versions of known strength; the greatest smoothed likelihood is SciPy's."""
    truth = dict(zip("abcde", [0.2, 0.5, 1.0, 2.0, 5.0], strict=True))
    draw = random.Random(7)
    wins: Counter[tuple[str, str]] = Counter()
    for a, b in combinations(truth, 2):
        if everybody_met or a == "a":
            for _ in range(200):
                first = draw.random() < truth[a] / (truth[a] + truth[b])
                wins[(a, b) if first else (b, a)] += 1
    fill_preferences(engine, wins)
    rows = engine.rows("select model_version, strength from headrace.preference_winrate")
    found = {row["model_version"]: row["strength"] for row in rows}
    names = sorted(truth)

    def loss(logs: Any) -> float:
        at = dict(zip(names, logs, strict=True))
        surprise = sum(
            (wins[a, b] + 0.5) * math.log1p(math.exp(at[b] - at[a]))
            for a, b in permutations(names, 2)
            if wins[a, b] + wins[b, a] > 0
        )
        return surprise + float(sum(logs)) ** 2

    best = minimize(loss, np.zeros(5), tol=1e-12).x
    for name, likeliest in zip(names, best - best.mean(), strict=True):
        assert math.log(found[name]) == pytest.approx(likeliest, abs=UNFINISHED)


def fill_preferences(engine: Engine, wins: Counter[tuple[str, str]]) -> None:
    """Put preferences straight into their pane, and a clock beside them."""
    with EventLog(engine) as opened:
        asked = parse("inference", {"model": "m", "event_time": START.isoformat()})
        send(opened, [("inference", asked)])
    with engine.connect() as connection:
        for (preferred, rejected), number in wins.items():
            connection.execute(
                "insert into panes.preference_panes values ('m', %s, %s, %s, null, %s)",
                [START, preferred, rejected, number],
            )

"""Preferences between versions: a naive recompute, and the likeliest strengths."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from datetime import timedelta
from itertools import combinations, pairwise, permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from msgspec import structs
from scipy.optimize import minimize
from scipy.stats import norm

from headrace.engine import Engine
from headrace.events.contract import Inference, parse
from headrace.events.log import EventLog
from tests.support.label_oracle import moment_of, utc
from tests.support.oracle import Oracle
from tests.support.rewards import (
    EXAMPLES,
    Story,
    recent,
    same,
    stories,
)
from tests.support.stored import empty
from tests.support.streams import START, send
from tests.support.usage_oracle import voter

# ln strength: what twenty steps are short of the greatest likelihood, for five versions that all
# met each other, or all met one of them.
STEPS = 20
UNFINISHED = 1e-3


Votes = Counter[tuple[str, str]]


def preferences(oracle: Oracle) -> dict[str, tuple[Votes, Votes]]:
    """How often one version was preferred to another one, or found as good, by model."""
    votes = {}
    for event in sorted(oracle.standing(), key=moment_of):
        if event.kind == "preference":
            pair = frozenset([event.request_id, event.rejected_request_id])
            votes[pair, voter(event)] = event
    found: dict[str, tuple[Votes, Votes]] = defaultdict(lambda: (Counter(), Counter()))
    for event in votes.values():
        preferred = oracle.inference.get(event.request_id)
        rejected = oracle.inference.get(event.rejected_request_id or "")
        if (
            preferred is not None
            and rejected is not None
            and preferred.model == rejected.model
            and preferred.model_version != rejected.model_version
            and recent(oracle, preferred.model, utc(event.event_time))
        ):
            versions = preferred.model_version, rejected.model_version
            wins, ties = found[preferred.model]
            if event.value == 0.5:
                ties[versions] += 1
                ties[versions[::-1]] += 1
            else:
                wins[versions] += 1
    return found


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


def strengths(wins: Votes, ties: Votes, steps: int) -> dict[str, float]:
    """Halved steps over all pairs that met, with half a win for either side, and for a tie."""
    names = sorted({name for pair in wins.keys() | ties.keys() for name in pair})
    met = [(a, b) for a in names for b in names if wins[a, b] + wins[b, a] + ties[a, b] > 0]
    strength = dict.fromkeys(names, 1.0)
    for _ in range(steps):
        up, down = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        for a, b in met:
            half = 0.5 + 0.5 * ties[a, b]
            up[a] += (wins[a, b] + half) * strength[b] / (strength[a] + strength[b])
            down[a] += (wins[b, a] + half) / (strength[a] + strength[b])
        strength = {a: math.sqrt(strength[a] * up[a] / down[a]) for a in names}
    middle = math.exp(sum(map(math.log, strength.values())) / len(names))
    return {name: value / middle for name, value in strength.items()}


def wilson_share(won: float, trials: int) -> tuple[float, float, float]:
    """A share and its interval; SciPy takes whole wins, so halves are its formula by hand."""
    share, z = won / trials, float(norm.ppf(0.975))
    middle = share + z * z / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return share, max((middle - reach) / scale, 0.0), min((middle + reach) / scale, 1.0)


@EXAMPLES
@given(story=stories().map(with_many_versions))
def test_preference_winrate(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.preference_winrate")
        actual = {(row["model"], row["model_version"]): row for row in rows}
        assert len(actual) == len(rows)
        wanted = {}
        for model, (wins, ties) in preferences(oracle).items():
            for name, strength in strengths(wins, ties, STEPS).items():
                won = sum(count for (a, _), count in wins.items() if a == name)
                lost = sum(count for (_, b), count in wins.items() if b == name)
                tied = sum(count for (a, _), count in ties.items() if a == name)
                met = {x for pair in wins.keys() | ties.keys() if name in pair for x in pair}
                share, low, high = wilson_share(won + tied / 2, won + lost + tied)
                wanted[model, name] = {
                    "opponents": len(met) - 1,
                    "comparisons": won + lost + tied,
                    "wins": won,
                    "losses": lost,
                    "ties": tied,
                    "win_rate": share,
                    "win_rate_low": low,
                    "win_rate_high": high,
                    "strength": strength,
                }
        assert actual.keys() == wanted.keys()
        for key, want in wanted.items():
            same(actual[key], want)

    story.tell(log, check)


PAIRS = {
    "everybody met": (list(combinations("abcde", 2)), UNFINISHED),
    "all met one": ([("a", name) for name in "bcde"], UNFINISHED),
    "a chain": (list(pairwise("abcdefgh")), None),
}


@pytest.mark.parametrize("who", PAIRS)
def test_strength_is_the_likeliest(engine: Engine, who: str) -> None:
    """Versions of known strength; the greatest smoothed likelihood is SciPy's."""
    pairs, allowed = PAIRS[who]
    draw = random.Random(7)
    wins: Counter[tuple[str, str]] = Counter()
    for a, b in pairs:
        for _ in range(200):
            first = draw.random() < 1 / (1 + 2 ** (ord(b) - ord(a)))
            wins[(a, b) if first else (b, a)] += 1
    fill_preferences(engine, wins)
    rows = engine.rows("select * from headrace.preference_winrate order by model_version")
    names = [row["model_version"] for row in rows]

    def loss(logs: Any) -> float:
        at = dict(zip(names, logs, strict=True))
        surprise = sum(
            (wins[a, b] + 0.5) * math.log1p(math.exp(at[b] - at[a]))
            for a, b in permutations(names, 2)
            if wins[a, b] + wins[b, a] > 0
        )
        return surprise + float(sum(logs)) ** 2

    best = minimize(loss, np.zeros(len(names)), tol=1e-12).x
    found = np.log([row["strength"] for row in rows])
    error = np.abs(found - (best - best.mean())).max()
    (told,) = {row["strength_error"] for row in rows}
    if allowed is None:
        assert error > 0.1 and error / 2 < told < error * 2
    else:
        assert error < allowed and told < allowed


def fill_preferences(engine: Engine, wins: Counter[tuple[str, str]]) -> None:
    """Put preferences straight into their pane, and a clock beside them."""
    with EventLog(engine) as opened:
        asked = parse("inference", {"model": "m", "event_time": START.isoformat()})
        send(opened, [("inference", asked)])
    with engine.connect() as connection:
        for (preferred, rejected), number in wins.items():
            connection.execute(
                "insert into panes.preference_panes values ('m', %s, %s, %s, null, %s, 0)",
                [START, preferred, rejected, number],
            )


def winrate(engine: Engine) -> dict[str, float]:
    rows = engine.rows("select model_version, win_rate from headrace.preference_winrate")
    return {row["model_version"]: row["win_rate"] for row in rows}


def test_a_person_has_one_vote_on_a_pair(engine: Engine, log: EventLog) -> None:
    """A tie is half a win, a changed mind no second vote, and a retracted vote none."""

    def vote(number: int, won: str, user: str | None, second: int, **extra: Any) -> str:
        lost = "B" if won == "A" else "A"
        said = {
            "kind": "preference", "request_id": f"{won}{number}", "user_id": user,
            "rejected_request_id": f"{lost}{number}",
            "event_time": (START + timedelta(seconds=second)).isoformat(), **extra,
        }  # fmt: skip
        event = parse("feedback", said)
        send(log, [("feedback", event)])
        return event.feedback_id  # type: ignore[union-attr]

    at = START.isoformat()
    asked = [
        {"model": "m", "model_version": v, "request_id": f"{v}{i}", "event_time": at}
        for i in range(4)
        for v in "AB"
    ]
    send(log, [("inference", parse("inference", row)) for row in asked])
    for second in range(10):
        vote(0, "A", "clicks", second)
    assert winrate(engine) == {"A": 1, "B": 0}
    vote(1, "B", "other", 11)
    assert winrate(engine) == {"A": 0.5, "B": 0.5}
    vote(0, "B", "clicks", 12)
    vote(0, "A", "clicks", 5)  # sent late: the later vote counts
    assert winrate(engine) == {"A": 0, "B": 1}
    tie = vote(2, "B", "other", 13, value=0.5)
    assert winrate(engine)["A"] == pytest.approx(0.5 / 3)
    taken = {"kind": "retraction", "request_id": "B2", "retracts": tie, "event_time": at}
    send(log, [("feedback", parse("feedback", taken))])
    assert winrate(engine) == {"A": 0, "B": 1}
    for second in range(2):
        vote(3, "A", None, second)
    assert winrate(engine) == {"A": 0.5, "B": 0.5}

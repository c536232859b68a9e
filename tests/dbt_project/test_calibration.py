"""Calibration: it drifts where scores come to mean something else, and only there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.oracle import score_bin
from tests.support.stored import empty
from tests.support.streams import START, send

Numbers = NDArray[np.float64]
Side = tuple[Numbers, NDArray[np.bool_]]
ALPHA, LEAST = 0.0005, 0.1
ROWS = 1_500


def draw(
    random: np.random.Generator,
    rows: int,
    at: float = 0,
    shift: float = 0,
    slope: float = 1,
    told: float = 1,
) -> Side:
    """Scores and what came true: logits N(at, 1.5), which the scores tell `told` times as great."""
    logits = random.normal(at, 1.5, rows)
    chance = 1 / (1 + np.exp(-(logits * slope + shift)))
    return 1 / (1 + np.exp(-logits * told)), random.random(rows) < chance


def naive(reference: Side, recent: Side) -> tuple[int, float, float]:
    """Bins that were compared, effect size and p-value."""
    scores, true = (np.concatenate(both) for both in zip(reference, recent, strict=True))
    fewest = min(min(y.sum(), (~y).sum()) for _, y in (reference, recent))
    below = [
        (np.searchsorted(of, scores) + np.searchsorted(of, scores, "right")) / 2 / max(len(of), 1)
        for of in (np.sort(scores[true]), np.sort(scores[~true]))
    ]
    bins = np.floor(max(min(fewest // 20, 10), 1) * (below[0] + below[1]) / 2)
    is_recent = np.arange(len(scores)) >= len(reference[0])
    chi_square, change, rows, compared = 0.0, 0.0, 0, 0
    for place in np.unique(bins):
        old, new = ((bins == place) & (is_recent == side) for side in (False, True))
        rate = true[old | new].mean()
        if not min(old.sum(), new.sum()) * rate * (1 - rate) >= 3:
            continue
        gap = (true[new].mean() - scores[new].mean()) - (true[old].mean() - scores[old].mean())
        variance = rate * (1 - rate) * (1 / old.sum() + 1 / new.sum())
        chi_square += gap**2 / variance
        change += new.sum() * (gap**2 - variance)
        rows, compared = rows + new.sum(), compared + 1
    if not compared:
        return 0, 0.0, 1.0
    effect = np.sqrt(max(change / rows, 0)) / true.std()
    return compared, float(effect), float(stats.chi2.sf(chi_square, compared))


Draw = Callable[[np.random.Generator, int], Side]
STEADY: dict[str, tuple[Draw, Draw]] = {
    "as before": (draw, draw),
    "other scores": (draw, lambda random, rows: draw(random, rows, at=0.5)),
    "never calibrated": (
        lambda random, rows: draw(random, rows, told=2),
        lambda random, rows: draw(random, rows, told=2, at=0.5),
    ),
    "rare": (
        lambda random, rows: draw(random, rows, at=-5),
        lambda random, rows: draw(random, rows, at=-5),
    ),
}
CHANGED: dict[str, tuple[Draw, Draw]] = {
    "more come true": (draw, lambda random, rows: draw(random, rows, shift=0.7)),
    "overconfident": (draw, lambda random, rows: draw(random, rows, slope=0.4)),
}


@pytest.mark.parametrize("name", STEADY)
@pytest.mark.parametrize(("before", "now"), [(100, 100), (1_000, 300), (3_000, 3_000)])
def test_a_calibration_that_stays_is_called_drifted_in_a_hundredth_of_looks(
    name: str, before: int, now: int
) -> None:
    random = np.random.default_rng([1, before, now])
    looks = [
        naive(*(side(random, rows) for side, rows in zip(STEADY[name], (before, now), strict=True)))
        for _ in range(400)
    ]
    assert np.mean([effect >= LEAST and p < ALPHA for _, effect, p in looks]) <= 0.01


def test_the_view_is_the_naive_one_and_tells_what_changed(engine: Engine, log: EventLog) -> None:
    empty(engine)
    random = np.random.default_rng(4)
    worlds = {**STEADY, **CHANGED}
    drawn = {
        name: (sides[0](random, ROWS), sides[1](random, ROWS)) for name, sides in worlds.items()
    }
    for name, sides in drawn.items():
        send(log, events(name, sides))
    found = {row["model"]: row for row in engine.rows("select * from headrace.calibration_drift")}
    for name, sides in drawn.items():
        bins, effect, p = naive(*((rounded(scores), true) for scores, true in sides))
        row = found[name]
        assert (row["model_version"], row["bins"]) == ("v1", bins)
        assert row["reference_rows"] == row["recent_rows"] == ROWS
        assert row["reference_rate"] == pytest.approx(sides[0][1].mean())
        assert row["recent_score"] == pytest.approx(sides[1][0].mean(), abs=0.002)
        assert row["effect_size"] == pytest.approx(effect, abs=1e-6)
        assert row["p_value"] == pytest.approx(p, abs=0.002)
    assert {name for name, row in found.items() if row["status"] == "drifted"} == {*CHANGED}
    alerts = engine.rows("select * from headrace.alerts where alert = 'calibration_drift'")
    assert {row["model"] for row in alerts} == {*CHANGED}
    (curve,) = engine.rows(
        "select count(*) as bins, sum(recent_true)::bigint as recent_true"
        " from headrace.calibration_curve where model = 'overconfident'"
    )
    assert curve == {"bins": 10, "recent_true": drawn["overconfident"][1][1].sum()}


def rounded(scores: Numbers) -> Numbers:
    """The middle of each score's bin: of 64 that grow to 0.1, 128 equal ones, 64 mirrored."""
    edges = np.concatenate([[0], 0.1 * 1000 ** (np.arange(-63, 0) / 63), np.linspace(0.1, 0.5, 65)])
    edges = np.concatenate([edges, 1 - edges[-2::-1]])
    middles = (edges[1:] + edges[:-1]) / 2
    middles[1:64] = np.sqrt(edges[1:64] * edges[2:65])
    middles[192:255] = 1 - middles[1:64][::-1]
    return np.asarray(middles[[score_bin(score) for score in scores]])


def events(model: str, sides: tuple[Side, Side]) -> list[tuple[Topic, Event]]:
    """A day of labels after the promotion and another one, forty days later."""
    step = {"model": model, "model_version": "v1"}
    promoted = {
        **step, "event": "promoted", "event_id": f"{model} v1", "event_time": START.isoformat(),
        "metrics": {"positive_label": "yes"},
    }  # fmt: skip
    found: list[tuple[Topic, Event]] = [("model_events", parse("model_events", promoted))]
    for days, (scores, true) in zip((0, 40), sides, strict=True):
        for place, (score, came) in enumerate(zip(scores.tolist(), true.tolist(), strict=True)):
            at = START + timedelta(days=days, minutes=1, seconds=10 * place)
            row: dict[str, Any] = {
                "model": model, "request_id": f"{model} {days} {place}",
                "event_time": at.isoformat(),
            }  # fmt: skip
            said = {**row, "model_version": "v1", "score": score, "prediction": "yes"}
            found.append(("inference", parse("inference", said)))
            heard = {**row, "label": "yes" if came else "no"}
            found.append(("feedback", parse("feedback", heard)))
    return found

"""Drift of vectors equals a naive recompute, is quiet where nothing changed, and sees what did."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from tests.support import vectors
from tests.support.champions import promote, trained, training_hours
from tests.support.closeness import check_rows
from tests.support.drift_oracle import Policies
from tests.support.formulas import EXAMPLES
from tests.support.oracle import Oracle, Row
from tests.support.policies import set_policies, stretched
from tests.support.stored import empty
from tests.support.streams import MODELS, Stream, first_of_each, send, streams
from tests.support.text_oracle import TextOracle

ALPHA, MOVING, ALERT = 0.0005, 0.1, 0.25


class VectorOracle(TextOracle):
    """What embedding_drift should hold, by model and base."""

    def embedding_drift(self, stored: list[dict[str, Any]]) -> dict[tuple[str, str], Row]:
        rows = {}
        for model in self.models:
            bases = defaultdict(list)
            for row in stored:
                if row["model"] == model:
                    bases[row["base"]].append(row)
            found = {}
            for base, held in bases.items():
                sides = self.sides(model, [row["event_time"] for row in held])
                old, new = (
                    np.array([row["v"] for row, inside in zip(held, side, strict=True) if inside])
                    for side in sides
                )
                if len(old) or len(new):
                    found[base] = distances(old, new)
            enough = self.policies.min_sample
            tests = sum(
                row["p_value"] is not None
                for row in found.values()
                if min(row["reference_vectors"], row["current_vectors"]) >= enough
            )
            for base, row in found.items():
                row["tests"] = tests
                sizes = {
                    "reference_rows": row["reference_vectors"],
                    "current_rows": row["current_vectors"],
                }
                sure = bool(tests) and self._is_sure(row["p_value"], tests)
                row["status"] = self._status(row | sizes, sure, False)
                rows[model, base] = row
        return rows


def distances(old: Any, new: Any) -> Row:
    """The distances of two sets of vectors, (n, dim) each."""
    n, m = len(old), len(new)
    dim = old.shape[-1] if n else new.shape[-1]
    row: Row = {"dimensions": dim, "reference_vectors": n, "current_vectors": m}
    row |= dict.fromkeys(("psi", "psi_excess", "p_value", "cosine_distance"))
    if min(n, m) < 2:
        return row
    means = [side.mean(axis=0) for side in (old, new)]
    spread = [np.maximum(side.var(axis=0, ddof=1), 1e-10) for side in (old, new)]
    errors = [v / size for v, size in zip(spread, (n, m), strict=True)]
    shift = (means[0] - means[1]) ** 2
    row["psi"] = float((2 * shift / (spread[0] + spread[1])).max())
    row["psi_excess"] = max(row["psi"] - 1 / n - 1 / m, 0)
    degrees = sum(errors) ** 2 / (errors[0] ** 2 / (n - 1) + errors[1] ** 2 / (m - 1))
    t2 = shift / sum(errors)
    z = (8 * degrees + 1) / (8 * degrees + 3) * np.sqrt(degrees * np.log1p(t2 / degrees))
    row["p_value"] = min(1.0, dim * 2 * float(stats.norm.sf(z.max())))
    squares = [float((mean**2 - e).sum()) for mean, e in zip(means, errors, strict=True)]
    if min(squares) > 0:
        cosine = float(means[0] @ means[1]) / math.sqrt(squares[0] * squares[1])
        row["cosine_distance"] = min(max(1 - cosine, 0), 2)
    return row


@settings(EXAMPLES, max_examples=10)
@given(
    stream=streams(),
    factor=st.sampled_from([1, 10]),
    hours=st.dictionaries(st.sampled_from(MODELS), training_hours),
    drift_window=st.sampled_from([1, 9, 72]),
    min_sample=st.sampled_from([1, 2, 4]),
)
def test_the_view_equals_a_recompute(
    engine: Engine,
    log: EventLog,
    stream: Stream,
    factor: int,
    hours: dict[str, Any],
    drift_window: int,
    min_sample: int,
) -> None:
    empty(engine)
    policies = Policies(min_sample=min_sample, drift_window=timedelta(hours=drift_window))
    set_policies(
        engine,
        min_sample=f"{min_sample}",
        drift_window=f"{drift_window} hours",
        drift_alpha=f"{policies.drift_alpha}",
        embed_inputs="1000000",
        vector_retention="10 years",
    )
    champions = {model: trained("v1", between, factor) for model, between in hours.items()}
    promote(log, champions)
    stream = stretched(stream, factor)
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        with pytest.MonkeyPatch.context() as patch:
            vectors.use(patch, name=f"words/{number % 2}", dim=3)
            vectors.embed(engine)
    oracle = VectorOracle(Oracle(*first_of_each(stream)), policies, champions)
    stored = engine.rows(
        "select model, base, event_time, embedding::real[] as v from headrace.input_vectors"
    )
    expected = oracle.embedding_drift(stored)
    check_rows(
        engine.rows("select * from headrace.embedding_drift"),
        ("model", "base"),
        expected,
        {"p_value": 1e-6, "cosine_distance": 1e-6},
    )


# Many models at once, each of which is one look: sums of a reference and of a current window

DIM = 384
Draw = Callable[[Any, int], Any]
_mixing = np.random.default_rng(11).normal(size=(20, DIM)) / math.sqrt(DIM)
_topics = np.random.default_rng(12).normal(size=(30, DIM)) / math.sqrt(DIM)


def normal(rng: Any, n: int) -> Any:
    return _unit(rng.normal(size=(n, DIM)) + 0.3)


def correlated(rng: Any, n: int) -> Any:
    """Twenty directions, whose lengths have heavy tails."""
    return _unit(rng.standard_t(5, size=(n, 20)) @ _mixing + 0.02 * rng.normal(size=(n, DIM)))


def topics(rng: Any, n: int) -> Any:
    """Topics, some of them rare: one text in a hundred or two hundred."""
    chances = 1 / np.arange(1, 31) ** 1.5
    topic = rng.choice(30, n, p=chances / chances.sum())
    return _unit(_topics[topic] + 0.7 * rng.normal(size=(n, DIM)) / math.sqrt(DIM))


def _unit(x: Any) -> Any:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def looks(engine: Engine, log: EventLog, sides: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
    """Return the row of each pair of reference and current window."""
    empty(engine)
    set_policies(engine, min_sample="1", drift_window="1 hour")
    start = datetime(2024, 5, 1, tzinfo=UTC)
    times = (start, start + timedelta(hours=3))
    events = [
        parse("inference", {"model": f"m{i}", "event_time": time.isoformat()})
        for i in range(len(sides))
        for time in times
    ]
    log.append("inference", events)
    with (
        engine.connect() as connection,
        connection.cursor() as cursor,
        cursor.copy("copy events.input_vector_hours from stdin") as copy,
    ):
        for i, pair in enumerate(sides):
            for time, side in zip(times, pair, strict=True):
                sums = [
                    "{" + ",".join(map(repr, x.tolist())) + "}"
                    for x in (side.sum(0), np.square(side).sum(0))
                ]
                copy.write_row((f"m{i}", "b", time, len(side), *sums))
    rows = engine.rows("select * from headrace.embedding_drift")
    assert len(rows) == len(sides)
    return rows


@pytest.mark.parametrize("draw", [normal, correlated, topics])
@pytest.mark.parametrize(("n", "m"), [(100, 100), (2_000, 100)])
def test_chance_alone_rarely_is_significant(
    engine: Engine, log: EventLog, draw: Draw, n: int, m: int
) -> None:
    """Of 300 looks where nothing changed, no more than alpha says."""
    rng = np.random.default_rng(n + m)
    rows = looks(engine, log, [(draw(rng, n), draw(rng, m)) for _ in range(300)])
    for alpha in (0.0005, 0.05, 0.2):
        wrong = sum(row["p_value"] < alpha for row in rows)
        assert wrong <= stats.binom.ppf(0.999, len(rows), alpha), (alpha, wrong)
    assert sum(row["status"] != "stable" for row in rows) <= 2
    # The distance is that without what sampling adds; it is of no use where the mean is 0.
    if draw is not correlated:
        assert max(row["cosine_distance"] for row in rows) < 0.1


@pytest.mark.parametrize(("n", "status"), [(100, None), (1_000, "drifted")])
def test_another_topic_is_found(engine: Engine, log: EventLog, n: int, status: str | None) -> None:
    """Three in ten of the texts are about something that the reference never was about."""
    rng = np.random.default_rng(5)
    other = np.random.default_rng(6).normal(size=DIM) / math.sqrt(DIM)

    def changed() -> Any:
        new = topics(rng, n)
        moved = rng.random(n) < 0.3
        new[moved] = _unit(other + 0.7 * rng.normal(size=(moved.sum(), DIM)) / math.sqrt(DIM))
        return new

    rows = looks(engine, log, [(topics(rng, n), changed()) for _ in range(40)])
    found = [row["status"] for row in rows]
    if status:
        assert found.count(status) >= 38
    assert found.count("stable") <= (40 if status is None else 1)


def test_its_p_value_is_welch_s(engine: Engine, log: EventLog) -> None:
    rng = np.random.default_rng(8)
    sides = [(normal(rng, 120), normal(rng, 80) + 0.01 * i) for i in range(5)]
    rows = {row["model"]: row for row in looks(engine, log, sides)}
    for i, (old, new) in enumerate(sides):
        p = stats.ttest_ind(old, new, equal_var=False).pvalue.min() * DIM
        assert rows[f"m{i}"]["p_value"] == pytest.approx(min(p, 1), rel=0.05)


def test_one_text_again_and_again(engine: Engine, log: EventLog) -> None:
    """Vectors that differ by rounding alone are no drift; another text is."""
    one, other = normal(np.random.default_rng(1), 2)
    rng = np.random.default_rng(2)

    def again(vector: Any, n: int) -> Any:
        return np.tile(vector, (n, 1)) + 1e-8 * rng.normal(size=(n, DIM))

    same, moved = looks(
        engine, log, [(again(one, 200), again(one, 200)), (again(one, 200), again(other, 200))]
    )
    found = {row["model"]: row["status"] for row in (same, moved)}
    assert found == {"m0": "stable", "m1": "drifted"}

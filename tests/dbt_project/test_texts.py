"""Drift of texts equals a naive recompute, sees what changed, and is quiet where nothing did."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, input_text, parse
from headrace.events.log import EventLog
from tests.support.champions import promote, trained, training_hours
from tests.support.closeness import check_rows
from tests.support.drift_oracle import Policies
from tests.support.formulas import EXAMPLES, Connection, evaluate, table
from tests.support.oracle import Oracle
from tests.support.policies import set_policies, stretched
from tests.support.stored import empty
from tests.support.streams import MODELS, START, Stream, first_of_each, send, streams
from tests.support.text_oracle import PLACES, TextOracle, likelihood_ratio, place

# chi_square_p_value: its roots are only nearly normal, worst at half a degree.
CHI_SQUARE = 0.07
ALPHA, MOVING, ALERT = 0.0005, 0.1, 0.25
# What text_drift looks at of a field.
TESTS = 3


@settings(EXAMPLES, max_examples=15)
@given(
    stream=streams(),
    factor=st.sampled_from([1, 10]),
    hours=st.dictionaries(st.sampled_from(MODELS), training_hours),
    drift_window=st.sampled_from([1, 9, 72]),
    min_sample=st.sampled_from([1, 2, 4]),
)
def test_views_equal_recompute(
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
    )
    champions = {model: trained("v1", between, factor) for model, between in hours.items()}
    promote(log, champions)
    stream = stretched(stream, factor)
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        oracle = Oracle(*first_of_each(Stream(stream.batches[: number + 1])))
        check(engine, TextOracle(oracle, policies, champions))


def check(engine: Engine, oracle: TextOracle) -> None:
    rows = engine.rows("select * from headrace.text_drift")
    check_rows(
        rows, ("model", "field"), oracle.text_drift(), {"length_chi_square_p_value": CHI_SQUARE}
    )


@pytest.mark.parametrize(
    "value",
    [
        "say \"x\"",
        {"a": "say \"x\": y", "b": {"c": ["one\ntwo", 1, None, True, {"d": ""}]}},
        {"a\"": "back\\slash \\n", "": "", "b": "{[,]}: \"\""},
        [["ünï", "日本"], "tab\there"],
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]},
        {"a": 1},
    ],
)  # fmt: skip
def test_the_text_of_an_object_is_what_the_trainer_reads(
    engine: Engine, log: EventLog, value: Any
) -> None:
    event = parse("inference", {"model": "m", "request_id": "r", "input": value})
    send(log, [("inference", event)])
    stored = json.loads(json.dumps(value, sort_keys=True))
    text = input_text(stored)
    lengths = engine.rows(
        "select sum(texts)::int as n from panes.text_panes where measure='length'"
    )
    assert lengths[0]["n"] == (1 if text else None)
    rows = engine.rows(
        "select block * 128 + place - 1 as place from panes.text_panes, "
        "unnest(counts::real[]) with ordinality as c (n, place) "
        "where measure = 'vocabulary' and n > 0"
    )
    words = "".join(c if c.isalpha() else " " for c in text).lower().split()
    assert {row["place"] for row in rows} == {place(word) for word in words}


def test_of_a_prediction_the_first_features_are_read(engine: Engine, log: EventLog) -> None:
    features: dict[str, Any] = {f"t{number}": "words " * 10 for number in range(12)}
    features |= {"a number": 7, "an address": "https://example.org/" + "a" * 40, "short": "a b"}
    event = parse("inference", {"model": "m", "request_id": "r", "features": features})
    send(log, [("inference", event)])
    rows = engine.rows("select distinct field from panes.text_panes")
    first = sorted(name for name in features if name[0] == "t")[:8]
    assert {row["field"] for row in rows} == {f"features.{name}" for name in first}


# The test of two proportions behind the vocabulary

counted = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@EXAMPLES
@given(st.lists(st.tuples(counted, counted).map(lambda p: (*p[0], *p[1])), min_size=1))
def test_two_proportion_g(database: Connection, cases: list[tuple[int, ...]]) -> None:
    found = evaluate(database, "two_proportion_g", cases)
    expected = [likelihood_ratio(*case) for case in cases]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-7)


def test_its_tails_are_those_of_the_exact_test() -> None:
    rng = np.random.default_rng(3)
    ratios: list[float] = []
    while len(ratios) < 500:
        n, m = rng.choice([100, 300, 1000, 10_000], 2)
        share = 10 ** rng.uniform(-3.5, 0) * 0.95
        a = rng.binomial(n, share)
        b = rng.binomial(m, min(1, share * rng.choice([0.2, 0.5, 1, 2, 5])))
        split = stats.hypergeom(n + m, a + b, n)
        exact = 2 * min(split.cdf(a), split.sf(a - 1))
        if 1e-9 < exact < 0.05:
            p = 2 * stats.norm.sf(np.sqrt(likelihood_ratio(a, n, b, m)))
            ratios.append(p / exact)
    assert min(ratios) > 0.6 and max(ratios) < 4


# Streams of texts: words by Zipf's law

VOCABULARY = 20_000
BUCKETS = np.random.default_rng(9).integers(0, PLACES, VOCABULARY)
ZIPF = 1 / np.arange(1, VOCABULARY + 1) ** 1.05
Lengths = Callable[[Any, int], Any]
LENGTHS: dict[str, Lengths] = {
    "5 words": lambda rng, n: rng.integers(5, 6, n),
    "30 words": lambda rng, n: rng.poisson(30, n) + 1,
    "5 to 200 words": lambda rng, n: rng.integers(5, 201, n),
}


def documents(rng: Any, n: int, lengths: Lengths, kind: str = "", share: float = 0) -> Any:
    """How many of n texts have a word in each place, of words of which a `share` is replaced."""
    sizes = np.minimum(lengths(rng, n), 64)
    cumulated = np.cumsum(ZIPF / ZIPF.sum())
    words = np.searchsorted(cumulated, rng.random((n, 64))).clip(0, VOCABULARY - 1)
    if kind == "topics":  # half of a text's words are of one of 20 topics
        topic = np.arange(20)[rng.integers(0, 20, n)][:, None]
        words = np.where(rng.random((n, 64)) < 0.5, words // 20 * 20 + topic, words)
        words = words.clip(0, VOCABULARY - 1)
    if kind == "bursty":  # two fifths of a text's words repeat its first one
        words = np.where(rng.random((n, 64)) < 0.4, words[:, :1], words)
    replaced = rng.random((n, 64)) < share
    places = np.where(replaced, BUCKETS[(words + 7919) % VOCABULARY], BUCKETS[words])
    held = np.zeros((n, PLACES), dtype=bool)
    rows, columns = np.nonzero(np.arange(64) < sizes[:, None])
    held[rows, places[rows, columns]] = True
    return held.sum(axis=0)


def looks(
    database: Connection, sides: list[tuple[Any, Any]], n: int, m: int
) -> list[tuple[float, float]]:
    """Of each look the p-value of the vocabulary and psi_excess."""
    rows = [
        (g, at, int(a), int(b))
        for g, (old, new) in enumerate(sides)
        for at, (a, b) in enumerate(zip(old, new, strict=True))
        if a + b
    ]
    found = table(database, "category_distances", ["g", "bin", "reference", "current"], rows)
    g = evaluate(database, "two_proportion_g", [(a, n, b, m) for _, _, a, b in rows])
    most: dict[int, float] = {}
    for (look, *_), value in zip(rows, g, strict=True):
        most[look] = max(most.get(look, 0), value)
    return [
        (
            min(1, row["bins"] * 2 * float(stats.norm.sf(np.sqrt(most[row["g"]])))),
            row["psi_excess"],
        )
        for row in found
    ]


@pytest.mark.parametrize("kind", ["", "bursty", "topics"])
@pytest.mark.parametrize("name", LENGTHS)
def test_texts_that_do_not_change_are_left_alone(
    database: Connection, name: str, kind: str
) -> None:
    rng = np.random.default_rng(21)
    wrong = significant = number = 0
    for n, m, times in ((100, 100, 60), (100, 1000, 40), (1000, 1000, 30), (10_000, 1000, 6)):
        sides = [
            (documents(rng, n, LENGTHS[name], kind), documents(rng, m, LENGTHS[name], kind))
            for _ in range(times)
        ]
        for p_value, excess in looks(database, sides, n, m):
            number += 1
            significant += p_value < 0.05
            wrong += p_value < ALPHA / TESTS and excess >= MOVING
    assert wrong == 0
    assert significant / number <= 0.07


@pytest.mark.parametrize("name", LENGTHS)
def test_half_of_the_words_replaced_is_seen(database: Connection, name: str) -> None:
    rng = np.random.default_rng(22)
    for n, m in ((100, 100), (300, 300), (1000, 1000)):
        pairs = [
            (documents(rng, n, LENGTHS[name]), documents(rng, m, LENGTHS[name], share=0.5))
            for _ in range(10)
        ]
        found = looks(database, pairs, n, m)
        seen = [p < ALPHA / TESTS and excess >= ALERT for p, excess in found]
        assert all(seen) or (name == "5 words" and n == 100), (n, m, found)


# From events to the verdict

ENGLISH = "the of and to in is you that it he was for on are as with his they at be this have from"
GERMAN = "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es"
TAIL = {
    "english": [f"eng{a}{b}" for a, b in itertools.product("abcdefghij", "klmnopqrst")],
    "german": [f"deu{a}{b}" for a, b in itertools.product("abcdefghij", "klmnopqrst")],
}


def text(rng: random.Random, language: str, most: int, replaced: float = 0) -> str:
    frequent = (ENGLISH if language == "english" else GERMAN).split()
    said = []
    for _ in range(rng.randint(most // 6, most)):
        word = rng.choice(frequent) if rng.random() < 0.5 else rng.choice(TAIL[language])
        said.append(word if rng.random() >= replaced else f"other{rng.randrange(60)}")
    return " ".join(said).capitalize() + "."


def told(
    model: str, before: int, after: int, make: Callable[[bool], dict[str, Any]]
) -> list[tuple[Topic, Event]]:
    """Predictions of one hour and, half a day later, of another."""
    return [
        (
            "inference",
            parse(
                "inference",
                {
                    "model": model, "model_version": "v1", "request_id": f"{model} {number}",
                    "event_time": (
                        START + timedelta(hours=12 * late, seconds=number % 3000)
                    ).isoformat(),
                    **make(late),
                },
            ),
        )
        for number in range(before + after)
        for late in [number >= before]
    ]  # fmt: skip


def verdicts(engine: Engine) -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in engine.rows("select * from headrace.text_drift")}


def test_what_changed_is_seen_at_a_hundred_texts(engine: Engine, log: EventLog) -> None:
    rng = random.Random(4)
    changes: dict[str, Callable[[bool], dict[str, Any]]] = {
        "language": lambda late: {"input": text(rng, "german" if late else "english", 30)},
        "topic": lambda late: {"input": text(rng, "english", 30, 0.5 * late)},
        "length": lambda late: {"output": text(rng, "english", 60 if late else 30)},
        "review": lambda late: {"features": {"review": text(rng, "english", 90, 0.5 * late)}},
        "chat": lambda late: {
            "input": {"messages": [{"role": "user", "content": text(rng, "english", 30, late)}]}
        },
    }
    for model, make in changes.items():
        send(log, told(model, 100, 100, make))
    found = verdicts(engine)
    assert {name: row["status"] for name, row in found.items()} == dict.fromkeys(changes, "drifted")
    assert found["length"]["vocabulary_psi_excess"] < ALERT < found["length"]["length_psi_excess"]
    for model in ("language", "topic", "review", "chat"):
        assert found[model]["vocabulary_psi_excess"] >= ALERT
        assert found[model]["vocabulary_p_value"] < ALPHA / TESTS
        assert found[model]["cosine_distance"] > 0.05
    summary = {
        row["model"]: (row["covariate_drift"], row["output_drift"])
        for row in engine.rows("select * from headrace.drift_summary")
    }
    assert summary == {m: (m != "length", m == "length") for m in changes}
    alerts = engine.rows("select model, subject from headrace.alerts where alert = 'text_drift'")
    assert {(row["model"], row["subject"]) for row in alerts} == {
        ("language", "input"), ("topic", "input"), ("length", "output"),
        ("review", "features.review"), ("chat", "input"),
    }  # fmt: skip


def test_what_did_not_change_is_stable(engine: Engine, log: EventLog) -> None:
    rng = random.Random(5)
    for number, size in enumerate([100] * 12 + [300] * 4):
        send(
            log,
            told(
                f"m{number}", size, size,
                lambda _: {
                    "input": text(rng, "english", 30), "output": text(rng, "german", 200)
                },
            ),
        )  # fmt: skip
    rows = engine.rows("select status, cosine_distance from headrace.text_drift")
    assert len(rows) == 32 and {row["status"] for row in rows} == {"stable"}
    assert max(row["cosine_distance"] for row in rows) < 0.05


def test_scripts_without_spaces_are_compared(engine: Engine, log: EventLog) -> None:
    rng = random.Random(6)
    first, second = ([chr(0x4E00 + n + k) for n in range(300)] for k in (0, 200))

    def written(letters: list[str]) -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randint(10, 60))) + "。"

    send(log, told("moved", 150, 150, lambda late: {"input": written(second if late else first)}))
    send(log, told("same", 150, 150, lambda _: {"input": written(first)}))
    found = {name: row["status"] for name, row in verdicts(engine).items()}
    assert found == {"moved": "drifted", "same": "stable"}

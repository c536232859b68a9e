"""Batches of the inference thread: who fails with whom, and that no answer mixes versions."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.control.load_failures import LoadFailures
from headrace.control.plan import Served
from headrace.engine import Engine
from headrace.errors import EngineError, ModelError, StoppedError
from headrace.gateway import batch
from headrace.gateway.answers import PredictionError
from headrace.gateway.batch import Part, answer
from headrace.gateway.features import Given
from headrace.gateway.jobs import Job
from headrace.gateway.loader import Loader
from headrace.gateway.metrics import MOST_VERSIONS, GatewayMetrics
from headrace.gateway.serving import Serving
from headrace.gateway.versions import LoadedVersion
from headrace.model.artifact import Manifest
from headrace.model.inputs import Example
from headrace.model.recipe import Predictor
from headrace.model.text.served import shared_graph
from headrace.settings import Settings
from tests.support.text_versions import WORDS, random_version


class NoDatabase(Engine):
    """An engine whose database does not answer."""

    def __init__(self) -> None:
        super().__init__("", Settings())

    def rows(self, *_: Any, **__: Any) -> Any:
        raise EngineError("away")


ROW = Served("m", "1", "champion", 0.0, "file:///1")


class Choosy:
    """Gives the probabilities (.25, .75); fails where a text says so."""

    labels: tuple[str, ...] = ("no", "yes")
    features: tuple[str, ...] = ()

    def __init__(self, error: type[Exception] = ValueError) -> None:
        self.asked: list[int] = []
        self._error = error

    def predict(self, examples: Sequence[Example]) -> NDArray[Any]:
        self.asked.append(len(examples))
        texts = [one.text for one in examples]
        if "bad" in texts:
            raise self._error("cannot say")
        rows = np.tile([0.25, 0.75], (len(examples), 1))
        rows[[text == "nan" for text in texts]] = np.nan
        return rows[: -1 if "short" in texts else None]


def loaded(predictor: Predictor, row: Served = ROW) -> LoadedVersion:
    manifest = Manifest(recipe="text_classifier", task="classification")
    return LoadedVersion(row, manifest, predictor, predictor.labels, None, None)


def part(predictor: Predictor, texts: Sequence[str]) -> Part:
    jobs = [Job("m", Example(text)) for text in texts]
    return Part(loaded(predictor), [(job, Given(job.example, None)) for job in jobs])


def outcomes(asked: Part) -> list[str | None]:
    found = []
    for job, _ in asked.jobs:
        error = job.future.exception(0)
        assert error is None or isinstance(error, PredictionError)
        found.append(str(error) if error else job.future.result(0).label)
    return found


def test_what_a_version_cannot_answer_takes_nothing_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "AGAIN_S", 60)
    rng = random.Random(1)
    for _ in range(20):
        texts = rng.choices(["good", "bad", "nan"], [8, 1, 1], k=rng.randint(1, 64))
        asked, other = part(Choosy(), texts), part(Choosy(), ["good"])
        answer([asked, other], time.perf_counter())
        for text, said in zip(texts, outcomes(asked), strict=True):
            wanted = {"good": "yes", "bad": "the model failed: cannot say"}.get(text)
            assert said == wanted if wanted else "must be a finite number" in str(said)
        assert outcomes(other) == ["yes"]


def test_no_version_is_waited_for_by_one_that_is_more_proven() -> None:
    answered: list[str] = []

    class Watching(Choosy):
        def predict(self, examples: Sequence[Example]) -> NDArray[Any]:
            answered.append(" ".join(one for one in parts if parts[one].jobs[0][0].future.done()))
            return super().predict(examples)

    parts: dict[str, Part] = {}
    for variant in ("canary", "champion", "shadow", "holdout"):
        asked = part(Watching(), ["good", "good"])
        row = Served("m", variant, variant, 0.0, "file:///1")
        parts[variant] = Part(loaded(asked.version.predictor, row), asked.jobs)
    began = time.perf_counter()
    took_s = answer([*parts.values()], began)
    assert answered == ["", "holdout", "champion holdout", "canary champion holdout"]
    times = [
        job.future.result(0).answered_at
        for variant in ("holdout", "champion", "canary", "shadow")
        for job, _ in parts[variant].jobs
    ]
    assert [began, *times, began + took_s] == sorted([began, *times, began + took_s])


@pytest.mark.parametrize(("again_s", "error"), [(0, ValueError), (60, StoppedError)])
def test_where_time_is_over_or_a_program_ended_no_half_is_asked(
    monkeypatch: pytest.MonkeyPatch, again_s: float, error: type[Exception]
) -> None:
    monkeypatch.setattr(batch, "AGAIN_S", again_s)
    version = Choosy(error)
    asked = part(version, ["good"] * 5 + ["bad"])
    answer([asked], time.perf_counter())
    assert version.asked == [6]
    assert set(outcomes(asked)) == {"the model failed: cannot say"}


def test_answers_that_are_too_few_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "AGAIN_S", 0)
    asked = part(Choosy(), ["good", "short", "good"])
    answer([asked], time.perf_counter())
    assert set(outcomes(asked)) == {"the model failed: 3 rows were asked, got 2"}


def test_histograms_are_of_the_versions_that_were_asked_last() -> None:
    metrics = GatewayMetrics()
    for number in range(MOST_VERSIONS + 2):
        asked = part(Choosy(), ["good"] * 3)
        row = Served("m", f"v{number}", "champion", 0.0, "")
        version = loaded(asked.version.predictor, row)
        first = loaded(asked.version.predictor, Served("m", "v0", "champion", 0.0, ""))
        parts = [Part(one, asked.jobs) for one in (version, first)]
        metrics.measure(parts, asked.jobs[0][0].queued_at + 0.03, 0.002)
    shown = metrics.exposition(NoDatabase(), 0).decode().splitlines()
    of_last = f'{{model="m",model_version="v{MOST_VERSIONS + 1}"}}'
    assert f"headrace_batch_rows_sum{of_last} 3.0" in shown
    assert f"headrace_batch_seconds_count{of_last} 1.0" in shown
    assert f"headrace_queue_seconds_count{of_last} 3.0" in shown
    counted = [line for line in shown if line.startswith("headrace_queue_seconds_count")]
    assert len(counted) == MOST_VERSIONS
    assert any('"v0"' in line for line in counted) and not any('"v1"' in one for one in counted)


MODELS, PLANS = ("m", "n"), 40


def test_no_answer_mixes_versions_while_plans_are_swapped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = shared_graph("", "float32")
    assert graph is not None
    predictors = {
        f"{model}{number}": random_version(graph, 10 * at + number, rank=number % 3)
        for at, model in enumerate(MODELS)
        for number in range(6)
    }
    texts = [" ".join(WORDS[:number]) for number in range(len(WORDS) + 1)]
    wanted = {
        name: one.predict([Example(text) for text in texts]) for name, one in predictors.items()
    }
    monkeypatch.setattr(Loader, "load", lambda _, row: loaded(predictors[row.model_version], row))

    monkeypatch.setattr(LoadFailures, "note", lambda *_: None)

    def plan(seed: int) -> tuple[Served, ...]:
        rng = random.Random(seed)
        rows = []
        for model in MODELS:
            chosen = rng.sample(range(6), 3)
            for number, variant, traffic in zip(
                chosen, ("champion", "canary", "holdout"), (0.0, 0.4, 0.2), strict=True
            ):
                rows.append(
                    Served(model, f"{model}{number}", variant, traffic, f"file:///{number}")
                )
        return tuple(rows)

    stopped: list[bool] = []
    batches: list[int] = []

    def ask(seed: int) -> set[str]:
        rng, seen = random.Random(seed), set()
        while not stopped:
            places = [rng.randrange(len(texts)) for _ in range(rng.randint(1, 20))]
            jobs = [
                Job(rng.choice(MODELS), Example(texts[at]), rng.choice("abcdefgh")) for at in places
            ]
            serving.predict([job] for job in jobs)
            for at, job in zip(places, jobs, strict=True):
                said = job.future.result(60)
                name = said.version.model_version
                seen.add(name)
                assert name.startswith(job.model) and said.scores is not None
                np.testing.assert_allclose(list(said.scores.values()), wanted[name][at], atol=1e-5)
        return seen

    with Serving(NoDatabase(), lambda parts, *_: batches.append(len(parts))) as serving:
        serving.follow(plan(0))
        with ThreadPoolExecutor(2) as threads:
            asking = [threads.submit(ask, seed) for seed in range(2)]
            try:
                for seed in range(1, PLANS):
                    under_way = len(batches) + 2
                    while len(batches) < under_way and not any(one.done() for one in asking):
                        time.sleep(0.001)
                    serving.follow(plan(seed))
            finally:
                stopped.append(True)
            seen = set.union(*(one.result() for one in asking))
    assert len(seen) > 6 and max(batches) > 2
    with pytest.raises(ModelError):
        job = Job("unknown", Example(""))
        serving.predict([[job]])
        job.future.result(0)

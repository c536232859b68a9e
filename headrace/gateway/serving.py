"""Predictions: requests are queued, and one thread runs the loaded versions on batches of them."""

from __future__ import annotations

import logging
import math
import queue
import threading
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from headrace.control.plan import FORMER, Served
from headrace.engine import Engine
from headrace.errors import BusyError, ModelError, NotLoadedError, NotServedError
from headrace.events.labels import label_text
from headrace.gateway.loader import Loader
from headrace.gateway.versions import CHAMPION, LoadedVersion, Plan, PlanUpdate, loaded_versions
from headrace.model.inputs import Example

logger = logging.getLogger(__name__)

MAX_BATCH = 64
MAX_QUEUE = 4_096
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Prediction:
    """What one version predicted for one request.

    `features` are those of the request and those from the feature store. `scores` are the
    probabilities by label, of a classification.
    """

    version: Served
    features: Mapping[str, Any]
    label: str | None
    score: float | None
    scores: dict[str, float] | None = None


@dataclass(frozen=True, eq=False)
class _Job:
    model: str
    request_id: str
    example: Example
    future: Future[Prediction] = field(default_factory=Future)


class Serving:
    """Loads the versions of the serving plan and predicts with them. A context manager."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loader = Loader(engine)
        self._prepared = False
        self._rows: tuple[Served, ...] = ()
        self._plan: Plan = {}
        self._errors: Mapping[Served, str] = {}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="headrace-inference", daemon=True)

    def __enter__(self) -> Serving:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._jobs.put(None)
        self._thread.join(STOP_TIMEOUT_S)
        self._loader.close()

    def predict(self, model: str, request_id: str, example: Example) -> Future[Prediction]:
        """Queue a request; the future has the prediction, or a ModelError.

        Raises:
            NotServedError, NotLoadedError: no version of the model can predict.
            BusyError: too many requests are queued.
        """
        self._choose(self._plan, model, request_id)
        if self._jobs.qsize() >= MAX_QUEUE:
            raise BusyError(f"{MAX_QUEUE} predictions are waiting; send again later")
        job = _Job(model, request_id, example)
        job.future.set_running_or_notify_cancel()
        self._jobs.put(job)
        return job.future

    def report(self) -> list[dict[str, Any]]:
        """Return each version of the plan, whether it is loaded, and why not."""
        loaded = {version.row for version in loaded_versions(self._plan)}
        current = {row for row in self._rows if row.variant != FORMER}
        tried = [row for row in self._rows if row.variant == FORMER and row in self._errors]
        rows = [*sorted(current), *tried, *sorted(loaded - current)]
        away = {row.model: row for row in current if row.variant == CHAMPION and row not in loaded}
        return [
            {
                "model": row.model,
                "model_version": row.model_version,
                "variant": row.variant,
                "traffic": row.traffic,
                "artifact_uri": row.artifact_uri,
                "loaded": row in loaded,
                "in_plan": row in current,
                "error": self._errors.get(row),
                "stands_in_for": (
                    away[row.model].model_version
                    if row.variant == CHAMPION and row not in current and row.model in away
                    else None
                ),
            }
            for row in rows
        ]

    def follow(self, rows: tuple[Served, ...]) -> None:
        """Make `rows` the plan: load new versions beside those that serve, then swap.

        What could not be loaded is tried again with the next call.
        """
        if not rows and not self._prepared and self._is_training():
            self._prepared = True
            self._loader.prepare()
        if rows == self._rows and not self._errors:
            return
        self._rows = rows
        update = PlanUpdate(rows, self._plan, self._errors, self._loader.load)
        self._errors = update.errors
        self._plan = update.plan

    def _is_training(self) -> bool:
        """Whether a trainer is at work, so that a first version may come soon."""
        found = self._engine.rows(
            "select count(*) as under_way from control.claims where finished_at is null"
        )
        return bool(found[0]["under_way"])

    def _choose(self, plan: Plan, model: str, request_id: str) -> LoadedVersion:
        if model not in plan:
            if any(row.model == model for row in self._rows):
                raise NotLoadedError(f"model: no version of {model!r} is loaded; see /v1/plan")
            served = ", ".join(sorted(plan)) or "none"
            raise NotServedError(f"model: no version of {model!r} serves; served are: {served}")
        version = plan[model].choose(request_id)
        if version is None:
            raise NotLoadedError(f"model: {model!r} has no champion yet; see /v1/plan")
        return version

    def _run(self) -> None:
        while (jobs := self._take()) is not None:
            plan = self._plan
            chosen: dict[LoadedVersion, list[_Job]] = defaultdict(list)
            for job in jobs:
                try:
                    chosen[self._choose(plan, job.model, job.request_id)].append(job)
                except ModelError as error:
                    job.future.set_exception(error)
            try:
                self._predict(chosen)
            except Exception as error:
                logger.exception("a batch of %d predictions failed", len(jobs))
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(ModelError(f"the model failed: {error}"))
            del plan, chosen, jobs  # a version that left the plan is freed after its last batch

    def _take(self) -> list[_Job] | None:
        """Wait for a job and take those behind it; None when stopped and the queue is empty."""
        first = self._jobs.get()
        if first is None:
            return None
        jobs = [first]
        while len(jobs) < MAX_BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs

    def _predict(self, chosen: Mapping[LoadedVersion, list[_Job]]) -> None:
        for version, jobs in chosen.items():
            examples = self._with_online(version, jobs)
            answers = version.predictor.predict(examples)
            for job, example, answer in zip(jobs, examples, answers, strict=True):
                job.future.set_result(_prediction(version, example.features, answer))

    def _with_online(self, version: LoadedVersion, jobs: list[_Job]) -> list[Example]:
        examples = [job.example for job in jobs]
        if not version.online or self._loader.reader is None:
            return examples
        entities = [{"model": job.model, "segment": job.example.segment} for job in jobs]
        try:
            found = self._loader.reader.online(entities)
        except Exception:
            logger.exception("the feature store failed; predicting without its features")
            return examples
        return [
            replace(
                example,
                features={
                    **{name: _scalar(row[name]) for name in version.online},
                    **example.features,
                },
            )
            for example, row in zip(examples, found, strict=True)
        ]


def _prediction(version: LoadedVersion, features: Mapping[str, Any], answer: Any) -> Prediction:
    """Turn a row of the predictor's answers into a prediction."""
    task = version.manifest.task
    if task == "generation":
        return Prediction(version.row, features, str(answer), None)
    if task != "classification":
        value = float(answer)
        if not math.isfinite(value):
            raise ModelError(f"the answer must be a finite number, got {value}")
        said = label_text(value) if task == "regression" else None
        return Prediction(version.row, features, said, value)
    scores = dict.fromkeys(version.labels, 0.0)
    for label, p in zip(version.labels, answer, strict=True):
        if not math.isfinite(p):
            raise ModelError(f"a probability must be a finite number, got {p}")
        scores[label] = min(max(scores[label] + float(p), 0.0), 1.0)
    best = max(scores, key=scores.__getitem__)
    score = scores[best if version.positive is None else version.positive]
    return Prediction(version.row, features, best, score, scores)


def _scalar(value: object) -> str | int | float | bool | None:
    """Return a value from the feature store; None for one that an event cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) else None

"""Predictions: requests are queued, and one thread runs the loaded versions on batches of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from typing import Any

from headrace.control.load_failures import LoadFailures
from headrace.control.plan import CHAMPION, FORMER, HOLDOUT, Served
from headrace.engine import Engine
from headrace.errors import ModelError, NotLoadedError, NotServedError, one_line
from headrace.gateway.answers import Prediction
from headrace.gateway.batch import Part, answer
from headrace.gateway.features import Given, Question, with_features
from headrace.gateway.jobs import Job, Jobs
from headrace.gateway.loader import Loader
from headrace.gateway.versions import LoadedVersion, Plan, PlanUpdate, loaded_versions
from headrace.model.inputs import Example

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 30.0


class Serving:
    """Loads the versions of the serving plan and predicts with them. A context manager.

    Args:
        measure: is told of each batch: its parts, when it was begun (`time.perf_counter`), and the
            seconds that it took.
    """

    def __init__(
        self, engine: Engine, measure: Callable[[Sequence[Part], float, float], None]
    ) -> None:
        self._engine = engine
        self._measure = measure
        self._loader = Loader(engine)
        self._failures = LoadFailures(engine)
        self._prepared = False
        self._rows: tuple[Served, ...] = ()
        self._plan: Plan = {}
        self._errors: Mapping[Served, str] = {}
        self._missing: Mapping[Served, str] = {}
        self._jobs = Jobs()
        self._thread = threading.Thread(target=self._run, name="headrace-inference", daemon=True)

    def __enter__(self) -> Serving:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._jobs.close()
        self._thread.join(STOP_TIMEOUT_S)
        self._loader.close()

    def predict(self, requests: Iterable[Sequence[Job]]) -> None:
        """Queue requests, those of one call together; one version answers all jobs of a request.

        These are of one model and one unit. The future of each will have its prediction, or a
        ModelError (a NotServedError or NotLoadedError where no version of the model can predict),
        or a BusyError where too many requests are queued.
        """
        plan, known = self._plan, []
        for jobs in requests:
            try:
                self._choose(plan, jobs[0].model, jobs[0].unit)
            except ModelError as error:
                for job in jobs:
                    job.future.set_exception(error)
            else:
                known.append(jobs)
        self._jobs.put(known)

    def shadow(
        self,
        model: str,
        example: Example,
        session_id: str | None,
        known_at: Mapping[str, datetime | None] | None,
    ) -> Iterator[tuple[Served, Future[Prediction] | None]]:
        """Ask each shadow of a model what it would answer, and yield its row with the future.

        The example has the features that were served, looked up in the views of `known_at`.
        Requests go before; what comes when too much waits is dropped, and has None.
        """
        versions = self._plan.get(model)
        for version in versions.shadows if versions else ():
            job = Job(model, example, session_id=session_id, known_at=known_at, shadow=version.row)
            yield version.row, job.future if self._jobs.offer(job) else None

    def report(self) -> list[dict[str, Any]]:
        """Return each version of the plan, whether it is loaded, and why not."""
        loaded = {version.row for version in loaded_versions(self._plan)}
        current = {row for row in self._rows if row.variant not in (FORMER, HOLDOUT)}
        current |= {row for row in loaded if row.variant == HOLDOUT}
        tried = [row for row in self._rows if row not in current and row in self._errors]
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

        What could not be loaded is tried again with the next call, and noted down.
        """
        if not rows and not self._prepared and self._is_training():
            self._prepared = True
            self._loader.prepare()
        if rows != self._rows or self._errors:
            self._rows = rows
            update = PlanUpdate(rows, self._plan, self._errors, self._loader.load)
            for plan in update.plans():
                self._plan = plan
            self._errors, self._missing = update.errors, update.missing
        self._failures.note(self._missing)

    def _is_training(self) -> bool:
        """Whether a trainer is at work, so that a first version may come soon."""
        found = self._engine.rows(
            "select count(*) as under_way from control.claims where finished_at is null"
        )
        return bool(found[0]["under_way"])

    def _choose(self, plan: Plan, model: str, unit: str) -> LoadedVersion:
        if model not in plan:
            if any(row.model == model for row in self._rows):
                raise NotLoadedError(f"model: no version of {model!r} is loaded; see /v1/plan")
            served = ", ".join(sorted(plan)) or "none"
            raise NotServedError(f"model: no version of {model!r} serves; served are: {served}")
        version = plan[model].choose(unit)
        if version is None:
            raise NotLoadedError(f"model: {model!r} has no champion yet; see /v1/plan")
        return version

    def _run(self) -> None:
        while jobs := self._jobs.take():
            try:
                self._answer(jobs)
            except Exception as error:
                logger.exception("a batch of %d failed", len(jobs))
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(ModelError(f"the batch failed: {one_line(error)}"))
            del jobs  # a version that left the plan is freed after its last batch

    def _answer(self, jobs: list[Job]) -> None:
        plan, began = self._plan, time.perf_counter()
        questions: list[Question] = []
        for job in jobs:
            try:
                if version := self._asked(plan, job):
                    questions.append((version, job))
            except ModelError as error:
                job.future.set_exception(error)
        chosen: dict[LoadedVersion, list[tuple[Job, Given]]] = defaultdict(list)
        for (version, job), given in zip(questions, with_features(questions), strict=True):
            chosen[version].append((job, given))
        parts = [Part(version, asked) for version, asked in chosen.items()]
        self._measure(parts, began, answer(parts, began))

    def _asked(self, plan: Plan, job: Job) -> LoadedVersion | None:
        """Return the version that a job asks; None for a shadow that is none any more."""
        if job.shadow is None:
            return self._choose(plan, job.model, job.unit)
        shadows = plan[job.model].shadows if job.model in plan else ()
        return next((version for version in shadows if version.row == job.shadow), None)

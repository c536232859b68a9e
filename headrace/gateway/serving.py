"""Which version answers a request, and the one thread that runs them.

A plan is immutable and holds its versions, which are immutable too: a swap is one assignment, and
a batch that began under the old plan ends under it. torch is imported when the first version is
loaded, so that a gateway that only takes events never pays for it.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import logging
import math
import os
import queue
import threading
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from headrace.control.plan import FORMER, Served
from headrace.engine import Engine
from headrace.errors import BusyError, ModelError, NotLoadedError, NotServedError
from headrace.model.artifact import artifact_path, load_adapter, read_config
from headrace.model.inputs import Example

if TYPE_CHECKING:
    from headrace.features.reader import FeatureReader
    from headrace.model.network import Adapter, Backbone, Hidden

log = logging.getLogger(__name__)

MAX_BATCH = 64
MAX_QUEUE = 4_096
STOP_TIMEOUT_S = 30.0
CHAMPION = "champion"


@dataclass(frozen=True, eq=False)
class Version:
    """A loaded version; `online` names the features that it reads from the live views."""

    row: Served
    adapter: Adapter
    positive: int
    online: tuple[str, ...]


@dataclass(frozen=True)
class ModelPlan:
    """The versions that answer for one model."""

    champion: Version | None
    canaries: tuple[Version, ...] = ()

    def choose(self, request_id: str) -> Version | None:
        """The version for this request: the same one as long as the plan stays the same."""
        place = place_of(request_id)
        for canary in self.canaries:
            place -= canary.row.traffic
            if place < 0:
                return canary
        return self.champion


Plan = Mapping[str, ModelPlan]


@dataclass(frozen=True)
class Answer:
    """What one version made of one request; `features` include those that were looked up."""

    version: Served
    features: Mapping[str, Any]
    scores: dict[str, float]
    positive: str


@dataclass(frozen=True, eq=False)
class _Job:
    model: str
    request_id: str
    example: Example
    future: Future[Answer] = field(default_factory=Future)


def place_of(request_id: str) -> float:
    """A number in [0, 1), spread evenly, always the same for the same id."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


class Serving:
    """Loads what the plan names and answers requests with it. A context manager."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._plan: Plan = {}
        self._rows: tuple[Served, ...] = ()
        self._errors: dict[Served, str] = {}
        self._backbone: Backbone | None = None
        self._reader: FeatureReader | None = None
        self._warm = False
        self._prepared = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="headrace-inference", daemon=True)

    def __enter__(self) -> Serving:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._jobs.put(None)
        self._thread.join(STOP_TIMEOUT_S)

    def ask(self, model: str, request_id: str, example: Example) -> Future[Answer]:
        """Queue a request; the future has the answer, or a ModelError.

        Raises:
            NotServedError, NotLoadedError: there is no version to ask.
            BusyError: too many requests are waiting.
        """
        self._choose(self._plan, model, request_id)
        if self._jobs.qsize() >= MAX_QUEUE:
            raise BusyError(f"{MAX_QUEUE} predictions are waiting; send again later")
        job = _Job(model, request_id, example)
        job.future.set_running_or_notify_cancel()
        self._jobs.put(job)
        return job.future

    def report(self) -> list[dict[str, Any]]:
        """Each version of the plan, whether it is loaded, and why not."""
        loaded = {version.row for version in _versions(self._plan)}
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
        """Make `rows` the plan: load what is new beside what serves, then swap.

        For a champion that cannot be loaded the newest former one that can be stands in, or else
        what serves goes on; it is tried again with the next call.
        """
        if not rows and not self._prepared and self._is_in_the_making():
            self._prepare()
        if rows == self._rows and not self._errors:
            return
        self._rows = rows
        old = self._plan
        was = {version.row: version for version in _versions(old)}
        loaded = {
            (row.model_version, row.artifact_uri, row.model): version
            for row, version in was.items()
        }
        ready: dict[Served, Version] = {}
        errors: dict[Served, str] = {}

        def has(row: Served) -> bool:
            known = loaded.get((row.model_version, row.artifact_uri, row.model))
            try:
                ready[row] = replace(known, row=row) if known else self._load(row)
            except Exception as error:
                errors[row] = f"{type(error).__name__}: {error}".splitlines()[0]
                if errors[row] != self._errors.get(row):
                    log.error(
                        "version %s of %s cannot be loaded: %s",
                        row.model_version, row.model, errors[row],
                    )  # fmt: skip
            return row in ready

        plan = {}
        for model in sorted({row.model for row in rows}):
            mine = [row for row in rows if row.model == model]
            champion = next((row for row in mine if row.variant == CHAMPION), None)
            serving = None
            if champion is not None and has(champion):
                serving = ready[champion]
            elif champion is not None:
                former = next((row for row in mine if row.variant == FORMER and has(row)), None)
                serving = ready[former] if former else old[model].champion if model in old else None
                if serving is not None:
                    row = replace(serving.row, variant=CHAMPION, traffic=champion.traffic)
                    serving = replace(serving, row=row)
                    if errors[champion] != self._errors.get(champion) or row not in was:
                        log.error(
                            "version %s of %s answers in place of %s",
                            row.model_version, model, champion.model_version,
                        )  # fmt: skip
            canaries = tuple(ready[row] for row in mine if row.variant == "canary" and has(row))
            if serving or canaries:
                plan[model] = ModelPlan(serving, canaries)
        self._errors = errors
        self._plan = plan

    def _is_in_the_making(self) -> bool:
        """Whether a trainer is at work, so that a first version may come soon."""
        found = self._engine.rows(
            "select count(*) as under_way from control.claims where finished_at is null"
        )
        return bool(found[0]["under_way"])

    def _prepare(self) -> None:
        """Import what takes seconds to import, so that the first version serves sooner."""
        self._prepared = True
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        for name in ("headrace.model.network", "transformers.models.bert.modeling_bert", "feast"):
            importlib.import_module(name)

    def _load(self, row: Served) -> Version:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        path = artifact_path(row.artifact_uri, self._engine.settings.artifacts_path)
        import torch

        from headrace.model.network import load_backbone, predict

        if not self._warm:
            torch.set_num_threads(os.cpu_count() or 1)
        config = read_config(path)
        if config["schema"]["has_text"] and self._backbone is None:
            self._backbone = load_backbone()
        adapter = load_adapter(path, self._backbone)
        online = self._online_names(adapter)
        predict(adapter, self._backbone, [Example("warm up")])
        if not self._warm:
            self._warm = True
            gc.collect()
            gc.freeze()
        positive = config.get("positive_label")
        labels = adapter.labels
        at = labels.index(positive) if positive in labels else len(labels) - 1
        log.info("loaded version %s of %s", row.model_version, row.model)
        return Version(row, adapter, at, online)

    def _online_names(self, adapter: Adapter) -> tuple[str, ...]:
        """The features of the schema that come from the feature store, as ``view__feature``."""
        if not any("__" in name for name in adapter.schema.numerics):
            return ()
        if self._reader is None:
            from headrace.features.reader import FeatureReader

            self._reader = FeatureReader(self._engine)
        return tuple(name for name in self._reader.names if name in adapter.schema.numerics)

    def _choose(self, plan: Plan, model: str, request_id: str) -> Version:
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
            chosen: dict[Version, list[_Job]] = defaultdict(list)
            for job in jobs:
                try:
                    chosen[self._choose(plan, job.model, job.request_id)].append(job)
                except ModelError as error:
                    job.future.set_exception(error)
            try:
                self._answer(chosen)
            except Exception as error:
                log.exception("a batch of %d predictions failed", len(jobs))
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(ModelError(f"the model failed: {error}"))
            del plan, chosen, jobs  # a version that left the plan goes with its last batch

    def _take(self) -> list[_Job] | None:
        """Wait for a job and take all that queued meanwhile; None when stopped and done."""
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

    def _answer(self, chosen: Mapping[Version, list[_Job]]) -> None:
        examples = {version: self._with_online(version, jobs) for version, jobs in chosen.items()}
        reading = [version for version in chosen if version.adapter.schema.has_text]
        hidden = None
        if reading and self._backbone is not None:
            hidden = self._backbone.encode([e.text for v in reading for e in examples[v]])
        start = 0
        for version, jobs in chosen.items():
            part = None
            if version in reading and hidden is not None:
                part = _slice(hidden, start, start + len(jobs))
                start += len(jobs)
            probabilities = version.adapter.predict(part, examples[version])
            labels = version.adapter.labels
            for job, example, row in zip(jobs, examples[version], probabilities, strict=True):
                scores = {
                    label: min(max(float(p), 0.0), 1.0)
                    for label, p in zip(labels, row, strict=True)
                }
                job.future.set_result(
                    Answer(version.row, example.features, scores, labels[version.positive])
                )

    def _with_online(self, version: Version, jobs: list[_Job]) -> list[Example]:
        examples = [job.example for job in jobs]
        if not version.online or self._reader is None:
            return examples
        entities = [{"model": job.model, "segment": job.example.segment} for job in jobs]
        try:
            found = self._reader.online(entities)
        except Exception:
            log.exception("the feature store did not answer; predicting without it")
            return examples
        return [
            Example(
                example.text,
                example.segment,
                {**{name: _scalar(row[name]) for name in version.online}, **example.features},
            )
            for example, row in zip(examples, found, strict=True)
        ]


def _versions(plan: Plan) -> list[Version]:
    return [
        version
        for each in plan.values()
        for version in (each.champion, *each.canaries)
        if version is not None
    ]


def _slice(hidden: Hidden, start: int, stop: int) -> Hidden:
    kind = type(hidden)
    return kind(hidden.states[start:stop], hidden.mask[start:stop], hidden.tokens[start:stop])


def _scalar(value: object) -> str | int | float | bool | None:
    """A looked-up value as a feature of an event: what an event can't hold is missing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool) else None

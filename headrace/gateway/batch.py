"""What the inference thread asks at once: versions, each with its part of a batch of requests."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headrace.control.plan import CANARY, CHAMPION, HOLDOUT
from headrace.errors import ModelError, StoppedError
from headrace.gateway.answers import PredictionError, prediction
from headrace.gateway.features import Given
from headrace.gateway.jobs import Job
from headrace.gateway.versions import LoadedVersion
from headrace.model.together import Answering, Answers, answering, shares, together

logger = logging.getLogger(__name__)

# How long a version that failed on several examples is asked about fewer of them.
AGAIN_S = 0.25
# Who is asked first: nobody waits in a batch for a version that is less proven.
TURNS = (HOLDOUT, CHAMPION, CANARY)


@dataclass(frozen=True, slots=True)
class Part:
    """What one version is asked: jobs, each with its example and what was looked up for it."""

    version: LoadedVersion
    jobs: Sequence[tuple[Job, Given]]

    def asked(self) -> Answering:
        examples = [given.example for _, given in self.jobs]
        passes = max(job.passes for job, _ in self.jobs)
        found = yield from answering(self.version.predictor, examples, passes)
        if len(found.rows) != len(examples):
            raise ModelError(f"{len(examples)} rows were asked, got {len(found.rows)}")
        return found

    def halves(self) -> list[Part]:
        middle = len(self.jobs) // 2
        return [Part(self.version, self.jobs[:middle]), Part(self.version, self.jobs[middle:])]


def answer(parts: Sequence[Part], began: float) -> float:
    """Give every job its prediction, or why there is none; return the seconds since the batch
    `began` (`time.perf_counter`).

    Versions that share no network are asked one after the other, canaries last, and each has its
    answers at once: so no champion waits for a slow canary of its batch, nor seems to be as slow.
    A version that fails, fails its own jobs only. Where it failed on several of them it is asked
    about half of these, and so on, so that one that it cannot answer takes few with it.
    """
    for group in _in_turn(parts):
        found = together([part.asked() for part in group])
        took_s = time.perf_counter() - began
        for part, answers in zip(group, found, strict=True):
            if isinstance(answers, Exception):
                _fail(part, answers, time.perf_counter() + AGAIN_S)
            else:
                _resolve(part, answers, took_s)
    return time.perf_counter() - began


def _in_turn(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts that are asked at once, in the order in which they are."""
    groups = [[part] for part in parts if not shares(part.version.predictor)]
    if sharing := [part for part in parts if shares(part.version.predictor)]:
        groups.append(sharing)
    return sorted(groups, key=lambda group: min(_turn(part) for part in group))


def _turn(part: Part) -> int:
    variant = part.version.row.variant
    return TURNS.index(variant) if variant in TURNS else len(TURNS)


def _fail(part: Part, error: Exception, until: float) -> None:
    if len(part.jobs) > 1 and time.perf_counter() < until and not isinstance(error, StoppedError):
        for half in part.halves():
            began = time.perf_counter()
            (answers,) = together([half.asked()])
            if isinstance(answers, Exception):
                _fail(half, answers, until)
            else:
                _resolve(half, answers, time.perf_counter() - began)
        return
    row = part.version.row
    logger.error(
        "version %s of %s failed on a batch of %d",
        row.model_version, row.model, len(part.jobs), exc_info=error,
    )  # fmt: skip
    for job, _ in part.jobs:
        job.future.set_exception(PredictionError(row, error))


def _resolve(part: Part, answers: Answers, took_s: float) -> None:
    version = part.version
    # Two labels of one text are one answer, which the columns of the passes are not.
    passes = answers.passes if len(set(version.labels)) == len(version.labels) else None
    for at, (job, given) in enumerate(part.jobs):
        try:
            found = prediction(version, given.example.features, answers.rows[at], took_s * 1000)
        except Exception as error:
            if not isinstance(error, ModelError):
                logger.exception("the answer of version %s is of no use", version.row.model_version)
            job.future.set_exception(PredictionError(version.row, error))
        else:
            wanted = passes[:, at] if passes is not None and job.passes else None
            answered_at = time.perf_counter()
            job.future.set_result(
                replace(found, passes=wanted, known_at=given.known_at, answered_at=answered_at)
            )

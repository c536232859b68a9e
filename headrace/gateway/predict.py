"""``POST /v1/predict``: check the request, have the model predict, log the inference, respond."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from headrace.control.plan import HOLDOUT, SHADOW, Served
from headrace.errors import BusyError, ContractError, EngineError, stored_line
from headrace.events.contract import Inference, filled_fields, input_text, parse
from headrace.events.log import EventLog, Filled
from headrace.events.rows import Receipt
from headrace.gateway.answers import Prediction, PredictionError
from headrace.gateway.assignment import unit_of
from headrace.gateway.explorer import Explorer
from headrace.gateway.features import ages
from headrace.gateway.ingest import CHECKED_AT_ONCE
from headrace.gateway.jobs import Job
from headrace.gateway.serving import Serving
from headrace.gateway.wire import EXPECTED, HttpError, http_error
from headrace.model.inputs import Example

logger = logging.getLogger(__name__)

FIELDS = (
    "model", "text", "input", "features", "segment", "request_id", "event_time",
    "endpoint", "user_id", "session_id", "item_id",
)  # fmt: skip
# Fields that may differ a little when the same request is sent again.
MEASURED = ("score", "probabilities", "latency_ms")
# And of a request whose features were looked up.
LOOKED_UP = ("features", "feature_ages")
# And of an answer that was chosen by exploration, once more is known of the arms.
EXPLORED = ("prediction", "propensity")
# And of what has no answer of its own to give again.
ANSWERED = ("prediction", "error")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request and the job that answers it; `filled` are fields that its sender did not set."""

    request: Inference
    filled: tuple[str, ...]
    job: Job


@dataclass(frozen=True, slots=True)
class _Answered:
    """What was answered, as it is logged, and what it was told of."""

    inference: Inference
    prediction: Prediction
    example: Example

    def body(self) -> dict[str, Any]:
        said = self.inference
        return {
            "request_id": said.request_id,
            "model": said.model,
            "model_version": said.model_version,
            "variant": said.variant,
            "prediction": said.prediction,
            "score": said.score,
            "scores": self.prediction.scores or {},
            "propensity": said.propensity,
            "latency_ms": said.latency_ms,
        }


class Predictor:
    """Answers requests and logs their inferences, and those of shadows and of failures.

    Args:
        count_shadow: is told what became of what a shadow was asked: answered, failed or dropped.
    """

    def __init__(
        self,
        serving: Serving,
        explorer: Explorer,
        log: EventLog,
        queue_rows: int,
        count_shadow: Callable[[str], None],
    ) -> None:
        self.serving = serving
        self.explorer = explorer
        self._log = log
        self._shadows_up_to = queue_rows // 2
        self._count_shadow = count_shadow

    async def predict(self, payloads: Sequence[object]) -> list[tuple[int, Any]]:
        """Return (HTTP status, body) for each request of one call; each fails alone.

        They are queued together. Their inferences are stored after the response. So are those of
        shadows, which are asked when the answers are there, and of a version that failed.
        """
        began = time.perf_counter()
        asked: list[_Asked | HttpError] = []
        for number, payload in enumerate(payloads, 1):
            asked.append(self._asked(payload))
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self.serving.predict([[one.job] for one in asked if isinstance(one, _Asked)])
        events: list[Filled] = []
        found = [
            await self._answered(one, began, events) if isinstance(one, _Asked) else one
            for one in asked
        ]
        try:
            self.store(events)
        except EXPECTED as error:
            failure = http_error(error)
            found = [failure if isinstance(one, _Answered) else one for one in found]
        for one in found:
            if isinstance(one, _Answered) and one.prediction.version.variant != HOLDOUT:
                self._shadow(one)
        return [(200 if isinstance(one, _Answered) else one.status, one.body()) for one in found]

    def _asked(self, payload: object) -> _Asked | HttpError:
        try:
            request = parse_request(payload)
        except ContractError as error:
            return http_error(error)
        assert isinstance(payload, Mapping)
        job = Job(
            request.model,
            example_of(request),
            unit_of(request),
            request.session_id,
            passes=self.explorer.passes(request.model),
        )
        return _Asked(request, (*filled_fields(payload), *MEASURED), job)

    async def _answered(
        self, asked: _Asked, began: float, events: list[Filled]
    ) -> _Answered | HttpError:
        """Wait for an answer; add what is to be stored to `events`."""
        request, filled = asked.request, list(asked.filled)
        try:
            prediction = await asyncio.wrap_future(asked.job.future)
        except PredictionError as error:
            unseen = _unseen(request, error.version, error)
            events.append(Filled(unseen, [*filled, *ANSWERED]))
            return http_error(error)
        except EXPECTED as error:
            return http_error(error)
        prediction = self.explorer.answer(request.model, request.request_id, prediction)
        if prediction.propensity is not None:
            filled += EXPLORED
        took_ms = round((prediction.answered_at - began) * 1000, 3)
        inference = _logged(request, prediction, took_ms)
        if prediction.known_at is not None:
            filled += LOOKED_UP
        events.append(Filled(inference, filled))
        example = replace(asked.job.example, features=prediction.features)
        return _Answered(inference, prediction, example)

    def _shadow(self, answered: _Answered) -> None:
        """Have the shadows of the model answer the same."""
        served = answered.inference
        for version, future in self.serving.shadow(
            served.model, answered.example, served.session_id, answered.prediction.known_at
        ):
            if future is None:
                self._count_shadow("dropped")
            else:
                future.add_done_callback(partial(self._store_shadow, served, version))

    def _store_shadow(self, served: Inference, version: Served, answer: Future[Prediction]) -> None:
        error = answer.exception()
        unseen = _unseen(served, version, error)
        if error is None:
            prediction = answer.result()
            unseen = _logged(unseen, prediction, round(prediction.took_ms, 3))
        if self._log.queued > self._shadows_up_to:  # leave the rest to what was served
            self._count_shadow("dropped")
            return
        try:
            filled = ["event_time", *LOOKED_UP, *MEASURED, *ANSWERED]
            self.store([Filled(unseen, filled)])
        except (BusyError, EngineError):
            self._count_shadow("dropped")
        else:
            self._count_shadow("answered" if error is None else "failed")

    def store(self, inferences: Sequence[Filled]) -> None:
        """Have inferences stored; why one cannot be is logged.

        Raises:
            BusyError, EngineError: as `EventLog.submit`.
        """
        if inferences:
            self._log.submit("inference", inferences).add_done_callback(_log_unstored)


def parse_request(payload: object) -> Inference:
    """Check one request and return it as an inference without a prediction.

    Raises:
        ContractError: names the field, what is allowed and what came.
    """
    if not isinstance(payload, Mapping):
        raise ContractError("", "an object", payload)
    for name in payload:
        if name not in FIELDS:
            raise ContractError(
                str(name), f"a known field (one of {', '.join(FIELDS)})", payload[name]
            )
    fields = dict(payload)
    text = fields.pop("text", None)
    if text is not None:
        if not isinstance(text, str):
            raise ContractError("text", "a string", text)
        if fields.get("input") is not None:
            raise ContractError("text", "given without input", text)
        fields["input"] = text
    event = parse("inference", fields)
    assert isinstance(event, Inference)
    return event


def example_of(request: Inference) -> Example:
    """Return what a version may know of a request."""
    return Example(
        input_text(request.input),
        request.segment,
        request.features,
        request.item_id,
        request.user_id,
    )


def ages_of(request: Inference, prediction: Prediction) -> dict[str, float | None] | None:
    """Return how old the features were that were looked up for a request, in seconds by view."""
    if prediction.known_at is None:
        return None
    assert request.event_time is not None
    return ages(request.event_time, prediction.known_at)


def _logged(request: Inference, prediction: Prediction, latency_ms: float) -> Inference:
    version = prediction.version
    return msgspec.structs.replace(
        request,
        model_version=version.model_version,
        variant=version.variant,
        features=dict(prediction.features),
        feature_ages=ages_of(request, prediction),
        prediction=prediction.label,
        score=prediction.score,
        probabilities=prediction.scores,
        propensity=prediction.propensity,
        latency_ms=latency_ms,
    )


def _unseen(request: Inference, version: Served, error: BaseException | None) -> Inference:
    """Return an inference of a version beside what a request was, or will be, answered.

    Its id is made of both, so a request that is sent again makes no other.
    """
    name = f"{request.request_id}\0{version.model_version}\0{version.variant}"
    digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
    shadow = version.variant == SHADOW
    return msgspec.structs.replace(
        request,
        request_id=f"{version.variant}-{digest}",
        model_version=version.model_version,
        variant=version.variant,
        input=None if shadow else request.input,
        shadow_of=request.request_id if shadow else None,
        feature_ages=None,
        prediction=None,
        score=None,
        probabilities=None,
        propensity=None,
        latency_ms=None,
        error=None if error is None else stored_line(error),
    )


def _log_unstored(stored: Future[list[Receipt]]) -> None:
    if error := stored.exception():
        logger.error("a prediction was returned, but its inference was not stored: %s", error)
        return
    for receipt in stored.result():
        if receipt.status == "rejected":
            logger.error(
                "a prediction was returned, but its inference was rejected: %s", receipt.reason
            )

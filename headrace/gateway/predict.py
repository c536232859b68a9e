"""``POST /v1/predict``: check the request, have the model predict, log the inference, respond."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
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
from headrace.gateway.serving import Serving
from headrace.gateway.wire import EXPECTED, http_error
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

    async def predict(self, payload: object) -> tuple[int, Any]:
        """Return (HTTP status, body) for one request. Its inference is stored after the response.

        So are those of shadows, which are asked when the answer is there, and of a version that
        failed.
        """
        began = time.perf_counter()
        try:
            request = parse_request(payload)
            assert isinstance(payload, Mapping)
            filled = [*filled_fields(payload), *MEASURED]
            example = example_of(request)
            try:
                (future,) = self.serving.predict(
                    request.model,
                    unit_of(request),
                    [example],
                    request.session_id,
                    self.explorer.passes(request.model),
                )
                prediction = await asyncio.wrap_future(future)
            except PredictionError as error:
                self._store(_unseen(request, error.version, error), [*filled, *ANSWERED])
                raise
            prediction = self.explorer.answer(request.model, request.request_id, prediction)
            if prediction.propensity is not None:
                filled += EXPLORED
            took_ms = round((time.perf_counter() - began) * 1000, 3)
            inference = _answered(request, prediction, took_ms)
            if prediction.known_at is not None:
                filled += LOOKED_UP
            self._store(inference, filled)
        except EXPECTED as error:
            failure = http_error(error)
            return failure.status, failure.body()
        if prediction.version.variant != HOLDOUT:
            self._shadow(inference, example, prediction)
        return 200, {
            "request_id": inference.request_id,
            "model": inference.model,
            "model_version": inference.model_version,
            "variant": inference.variant,
            "prediction": inference.prediction,
            "score": inference.score,
            "scores": prediction.scores or {},
            "propensity": inference.propensity,
            "latency_ms": inference.latency_ms,
        }

    def _shadow(self, served: Inference, example: Example, prediction: Prediction) -> None:
        """Have the shadows of the model answer the same."""
        example = replace(example, features=prediction.features)
        for version, future in self.serving.shadow(
            served.model, example, served.session_id, prediction.known_at
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
            unseen = _answered(unseen, prediction, round(prediction.took_ms, 3))
        if self._log.queued > self._shadows_up_to:  # leave the rest to what was served
            self._count_shadow("dropped")
            return
        try:
            self._store(unseen, ["event_time", *LOOKED_UP, *MEASURED, *ANSWERED])
        except (BusyError, EngineError):
            self._count_shadow("dropped")
        else:
            self._count_shadow("answered" if error is None else "failed")

    def _store(self, inference: Inference, filled: Sequence[str]) -> None:
        self.store([Filled(inference, filled)])

    def store(self, inferences: Sequence[Filled]) -> None:
        """Have inferences stored; why one cannot be is logged."""
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


def _answered(request: Inference, prediction: Prediction, latency_ms: float) -> Inference:
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

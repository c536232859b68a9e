"""``POST /v1/predict``: check the request, have the model predict, log the inference, respond."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import msgspec

from headrace.errors import ContractError
from headrace.events.contract import Inference, filled_fields, input_text, parse
from headrace.events.log import EventLog, Filled
from headrace.events.rows import Receipt
from headrace.gateway.serving import Prediction, Serving
from headrace.gateway.wire import EXPECTED, http_error
from headrace.model.inputs import Example

logger = logging.getLogger(__name__)

FIELDS = (
    "model", "text", "input", "features", "segment", "request_id", "event_time",
    "endpoint", "user_id", "session_id", "item_id",
)  # fmt: skip
# Fields that may differ a little when the same request is sent again.
MEASURED = ("score", "probabilities", "latency_ms")


async def predict(payload: object, serving: Serving, log: EventLog) -> tuple[int, Any]:
    """Return (HTTP status, body) for one request. Its inference is stored after the response."""
    began = time.perf_counter()
    try:
        request = parse_request(payload)
        assert isinstance(payload, Mapping)
        example = Example(
            input_text(request.input),
            request.segment,
            request.features,
            request.item_id,
            request.user_id,
        )
        prediction = await asyncio.wrap_future(
            serving.predict(request.model, request.request_id, example)
        )
        inference = _inference(request, prediction, (time.perf_counter() - began) * 1000)
        filled = [*filled_fields(payload), *MEASURED]
        if inference.features != request.features:
            filled.append("features")
        log.submit("inference", [Filled(inference, filled)]).add_done_callback(_log_unstored)
    except EXPECTED as error:
        failure = http_error(error)
        return failure.status, failure.body()
    return 200, {
        "request_id": inference.request_id,
        "model": inference.model,
        "model_version": inference.model_version,
        "variant": inference.variant,
        "prediction": inference.prediction,
        "score": inference.score,
        "scores": prediction.scores or {},
        "latency_ms": inference.latency_ms,
    }


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


def _inference(request: Inference, prediction: Prediction, latency_ms: float) -> Inference:
    version = prediction.version
    return msgspec.structs.replace(
        request,
        model_version=version.model_version,
        variant="canary" if version.variant == "canary" else "champion",
        features=dict(prediction.features),
        prediction=prediction.label,
        score=prediction.score,
        probabilities=prediction.scores,
        latency_ms=round(latency_ms, 3),
    )


def _log_unstored(stored: Future[list[Receipt]]) -> None:
    if error := stored.exception():
        logger.error("a prediction was returned, but its inference was not stored: %s", error)
        return
    (receipt,) = stored.result()
    if receipt.status == "rejected":
        logger.error(
            "a prediction was returned, but its inference was rejected: %s", receipt.reason
        )

"""``POST /v1/predict``: check the request, ask the model, log the inference, answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from headrace.errors import (
    BusyError,
    ContractError,
    EngineError,
    ModelError,
    NotLoadedError,
    NotServedError,
)
from headrace.events.contract import Inference, parse, text_of, unsaid
from headrace.events.log import EventLog, Receipt
from headrace.gateway.serving import Answer, Serving
from headrace.gateway.wire import HttpError, describe
from headrace.model.inputs import Example

log = logging.getLogger(__name__)

FIELDS = (
    "model", "text", "input", "features", "segment", "request_id", "event_time",
    "endpoint", "user_id", "session_id", "item_id",
)  # fmt: skip
# What may be a little different when somebody asks the same again, and is no other answer.
MEASURED = ("score", "output", "latency_ms")


def parse_request(payload: object) -> Inference:
    """Check one prediction request and return the inference that it becomes.

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


async def predict(payload: object, serving: Serving, events: EventLog) -> tuple[int, Any]:
    """Answer one request: (HTTP status, body). The inference is stored behind the answer."""
    began = time.perf_counter()
    try:
        event = parse_request(payload)
        assert isinstance(payload, Mapping)
        example = Example(text_of(event.input), event.segment, event.features)
        answer = await asyncio.wrap_future(serving.ask(event.model, event.request_id, example))
        looked_up = event.features != answer.features
        _complete(event, answer, (time.perf_counter() - began) * 1000)
        assumed = (*unsaid(payload), *MEASURED, *(["features"] if looked_up else []))
        events.submit("inference", [event], assumed=[assumed]).add_done_callback(_report)
    except ContractError as error:
        return 422, {"error": {"type": "contract", **describe(error)}}
    except (BusyError, ModelError, EngineError) as error:
        failure = as_http(error)
        return failure.status, failure.body()
    return 200, {
        "request_id": event.request_id,
        "model": event.model,
        "model_version": event.model_version,
        "variant": event.variant,
        "prediction": event.prediction,
        "score": event.score,
        "scores": answer.scores,
        "latency_ms": event.latency_ms,
    }


def as_http(error: BusyError | ModelError | EngineError) -> HttpError:
    if isinstance(error, BusyError):
        return HttpError(429, "busy", str(error), retry_after_s=error.retry_after_s)
    if isinstance(error, NotServedError):
        return HttpError(404, "not_served", str(error))
    if isinstance(error, NotLoadedError):
        return HttpError(503, "not_loaded", str(error), retry_after_s=1)
    if isinstance(error, ModelError):
        return HttpError(500, "model", str(error))
    return HttpError(503, "engine", str(error), retry_after_s=1)


def _complete(event: Inference, answer: Answer, latency_ms: float) -> None:
    event.model_version = answer.version.model_version
    event.variant = "canary" if answer.version.variant == "canary" else "champion"
    event.features = dict(answer.features)
    event.prediction = max(answer.scores, key=answer.scores.__getitem__)
    event.score = answer.scores[answer.positive]
    event.output = {"scores": answer.scores}
    event.latency_ms = round(latency_ms, 3)


def _report(stored: Future[Receipt]) -> None:
    error = stored.exception()
    if error is not None:
        log.error("an inference was answered but not stored: %s", error)
        return
    for refused in stored.result().refused:
        log.error("an inference was answered but refused: %s", refused.reason)

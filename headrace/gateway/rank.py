"""``POST /v1/rank``: candidates in, an ordered list out, one logged inference for each item."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from headrace.errors import ContractError
from headrace.events.contract import Inference, filled_fields, uuid7
from headrace.events.log import Filled
from headrace.gateway.answers import Prediction
from headrace.gateway.assignment import unit_of
from headrace.gateway.jobs import Job
from headrace.gateway.predict import (
    LOOKED_UP,
    MEASURED,
    Predictor,
    ages_of,
    example_of,
    parse_request,
)
from headrace.gateway.wire import EXPECTED, http_error

MAX_CANDIDATES = 500


async def rank(payload: object, predictor: Predictor) -> tuple[int, Any]:
    """Return (HTTP status, body) for one request. Its inferences are stored after the response."""
    began = time.perf_counter()
    try:
        items = _parse(payload)
        answers = await _answers(items, predictor)
        first, variant = items[0], answers[0].version.variant
        order = predictor.explorer.order(
            first.model,
            first.request_id,
            [item.item_id or "" for item in items],
            [_value(answer) for answer in answers],
            variant,
        )
        took_ms = round((time.perf_counter() - began) * 1000, 3)
        shown = [
            msgspec.structs.replace(
                items[at],
                model_version=answers[at].version.model_version,
                variant=variant,
                features=dict(answers[at].features),
                feature_ages=ages_of(items[at], answers[at]),
                score=answers[at].score if 0 <= _value(answers[at]) <= 1 else None,
                propensity=propensity,
                position=position,
                latency_ms=took_ms,
            )
            for position, (at, propensity) in enumerate(order, 1)
        ]
        assert isinstance(payload, Mapping)
        filled = [*filled_fields(payload), *MEASURED, *LOOKED_UP, "propensity", "position"]
        predictor.store([Filled(inference, filled) for inference in shown])
    except EXPECTED as error:
        failure = http_error(error)
        return failure.status, failure.body()
    return 200, {
        "request_id": first.request_id,
        "model": first.model,
        "model_version": shown[0].model_version,
        "variant": variant,
        "items": [
            {
                "item_id": one.item_id,
                "position": one.position,
                "score": _value(answers[at]),
                "propensity": one.propensity,
            }
            for one, (at, _) in zip(shown, order, strict=True)
        ],
        "latency_ms": took_ms,
    }


def _parse(payload: object) -> list[Inference]:
    """Return an inference without a prediction for each candidate.

    Raises:
        ContractError: names the field, what is allowed and what came.
    """
    if not isinstance(payload, Mapping):
        raise ContractError("", "an object", payload)
    fields = dict(payload)
    candidates = fields.pop("candidates", None)
    allowed = f"an array of 1 to {MAX_CANDIDATES} objects, each with an item_id"
    if not isinstance(candidates, list) or not 1 <= len(candidates) <= MAX_CANDIDATES:
        raise ContractError("candidates", allowed, candidates)
    if "item_id" in fields:
        raise ContractError("item_id", "given with each candidate", fields["item_id"])
    fields["request_id"] = fields.get("request_id") or uuid7()
    shared = fields.pop("features", None) or {}
    if not isinstance(shared, Mapping):
        raise ContractError("features", "an object", shared)
    items = []
    for candidate in candidates:
        if not isinstance(candidate, Mapping) or not candidate.get("item_id"):
            raise ContractError("candidates", allowed, candidate)
        own = dict(candidate)
        for name in own:
            if name not in ("item_id", "features", "text", "input"):
                raise ContractError(
                    f"candidates.{name}", "one of item_id, features, text, input", own[name]
                )
        features = own.pop("features", None) or {}
        if not isinstance(features, Mapping):
            raise ContractError("candidates.features", "an object", features)
        items.append(parse_request({**fields, **own, "features": {**shared, **features}}))
    if len({item.item_id for item in items}) < len(items):
        raise ContractError("candidates", "items each named once", [one.item_id for one in items])
    return items


async def _answers(items: list[Inference], predictor: Predictor) -> list[Prediction]:
    """Ask the version that answers the request about all candidates at once.

    Raises:
        ModelError: the version fails, or none can answer.
        BusyError: too many requests wait.
    """
    unit, session = unit_of(items[0]), items[0].session_id
    jobs = [Job(item.model, example_of(item), unit, session) for item in items]
    predictor.serving.predict([jobs])
    return list(await asyncio.gather(*(asyncio.wrap_future(job.future) for job in jobs)))


def _value(answer: Prediction) -> float:
    """What a candidate is worth: its score, or expected value."""
    return answer.score if answer.score is not None else 0.0

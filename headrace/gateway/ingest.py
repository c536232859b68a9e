"""``POST /v1/inferences``, ``feedback`` and ``model-events``: check events, store them, respond."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.responses import Response

from headrace.errors import ContractError
from headrace.events.contract import IDS, Event, ModelEvent, Topic, filled_fields, parse
from headrace.events.log import Filled, Rejected, Stored
from headrace.events.rows import Receipt
from headrace.gateway.wire import HttpError, describe, respond
from headrace.model.artifact import check_address

ACKNOWLEDGE_TIMEOUT_S = 30.0
# Events that are checked before other requests get a turn.
CHECKED_AT_ONCE = 250

Item = Filled | Rejected


async def check_all(topic: Topic, payloads: Sequence[Any], artifacts: Path) -> list[Item]:
    """Check payloads; model events may name versions in the folder `artifacts` only."""
    items: list[Item] = []
    for number, payload in enumerate(payloads, 1):
        items.append(_check(topic, payload, artifacts))
        if number % CHECKED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return items


def _check(topic: Topic, payload: Any, artifacts: Path) -> Item:
    try:
        event = parse(topic, payload)
        if isinstance(event, ModelEvent):
            check_address(event.artifact_uri, artifacts)
    except ContractError as error:
        return Rejected(payload, error)
    return Filled(event, filled_fields(payload))


async def receipts_of(stored: Stored) -> list[Receipt]:
    """Wait for the commit of what was submitted to the log, and return the receipts.

    Raises:
        HttpError: 503 when it takes longer than ACKNOWLEDGE_TIMEOUT_S.
        EngineError: the log was closed before the database came back.
    """
    try:
        return await asyncio.wait_for(asyncio.wrap_future(stored), ACKNOWLEDGE_TIMEOUT_S)
    except TimeoutError:
        raise HttpError(
            503, "engine", "not stored yet; send the same ids again", retry_after_s=1
        ) from None


def stored_response(
    topic: Topic, payloads: Sequence[Any], items: Sequence[Item], receipts: Sequence[Receipt]
) -> Response:
    """Return the response for items and their receipts: 201, or 422 if any was rejected."""
    counts = Counter(receipt.status for receipt in receipts)
    ids: list[str | None] = [None] * len(items)
    conflicting: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    for index, (item, receipt) in enumerate(zip(items, receipts, strict=True)):
        if isinstance(item, Rejected):
            rejected.append({"index": index, **describe(item.error)})
        elif receipt.status == "rejected":
            error = ContractError("", f"storable ({receipt.reason})", payloads[index])
            rejected.append({"index": index, **describe(error)})
        elif receipt.status == "conflict" and "model" in receipt.differing:
            rejected.append({"index": index, **describe(_taken(topic, item.event))})
        else:
            ids[index] = getattr(item.event, IDS[topic])
        if receipt.status == "conflict" and ids[index] is not None:
            conflict = {"index": index, "id": ids[index], "fields": receipt.differing}
            conflicting.append(conflict)
    body = {
        "accepted": counts["accepted"],
        "duplicates": counts["duplicate"],
        "conflicts": len(conflicting),
        "conflicting": conflicting,
        "rejected": rejected,
        "ids": ids,
    }
    if not rejected:
        return respond(body, 201)
    message = f"{len(rejected)} of {len(items)} events broke the contract; the rest is stored"
    if len(items) == 1:
        message = rejected[0]["message"]
    return respond({"error": {"type": "contract", "message": message}, **body}, 422)


def _taken(topic: Topic, event: Event) -> ContractError:
    """What is wrong with an event whose id is that of another model's event."""
    name = IDS[topic]
    allowed = "unique over all models (an event of another model has this id)"
    return ContractError(name, allowed, getattr(event, name))

"""``/v1/review``: what people are to label, claimed, labelled and skipped; and the page for it.

A label is stored as feedback (kind label, source human, the reviewer as its user_id) whose id is
made of the claim: sent again it is a duplicate. It is stored before the claim ends, so whatever is
killed in between, the prediction has left the queue or is claimed again when the lease is over.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from headrace.control import reviews
from headrace.control.reviews import Candidate, Claim
from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.events.contract import parse
from headrace.events.labels import class_of
from headrace.events.log import EventLog, Filled
from headrace.events.values import MAX_ID
from headrace.gateway.ingest import receipts_of
from headrace.gateway.wire import read_json, respond

PAGE = Path(__file__).with_suffix(".html")
MAX_CLASSES = 100
_OUTPUTS = "model_version, variant, prediction, score, probabilities, output, error"


class ReviewDesk:
    """The handlers of ``/v1/review``. The events go into `log`."""

    def __init__(self, engine: Engine, log: EventLog) -> None:
        self._engine = engine
        self._log = log

    async def listed(self, request: Request) -> Response:
        """What is to be reviewed: of one model, or how much of each."""
        model = request.query_params.get("model")
        if model is None:
            return respond({"models": await run_in_threadpool(reviews.waiting, self._engine)})
        return respond(await run_in_threadpool(self._listed, _named("model", model)))

    def _listed(self, model: str) -> dict[str, Any]:
        rows = reviews.queue(self._engine, model)
        having = reviews.claimed_by(self._engine, model, rows) if rows else {}
        items = [
            {**_shown(row), "claimed_by": having.get(row.prediction_id(model))} for row in rows
        ]
        return {"model": model, "items": items, **reviews.progress(self._engine, model)}

    async def claim(self, request: Request) -> Response:
        body = await _fields(request, "model", "reviewer")
        model, reviewer = (_named(name, body[name]) for name in ("model", "reviewer"))
        return respond(await run_in_threadpool(self._claimed, model, reviewer))

    def _claimed(self, model: str, reviewer: str) -> dict[str, Any]:
        rows = reviews.queue(self._engine, model)
        taken = reviews.claim(self._engine, model, reviewer, rows)
        return {
            "claim": self._details(*taken) if taken else None,
            "waiting": len(rows),
            **reviews.progress(self._engine, model, reviewer),
        }

    async def label(self, request: Request) -> Response:
        body = await _fields(request, "claim_id", "label")
        claim = await run_in_threadpool(reviews.check, self._engine, body["claim_id"], "labeled")
        said = {"kind": "label", "label": body["label"], **_about(claim)}
        if not await self._store(claim, f"review-{claim.claim_id}", said):
            raise ContractError("label", "the one that was sent first", body["label"])
        await run_in_threadpool(reviews.note, self._engine, claim, "labeled")
        return respond({"claim_id": claim.claim_id, "feedback_id": f"review-{claim.claim_id}"})

    async def skip(self, request: Request) -> Response:
        body = await _fields(request, "claim_id")
        claim = await run_in_threadpool(reviews.check, self._engine, body["claim_id"], "skipped")
        await run_in_threadpool(reviews.note, self._engine, claim, "skipped")
        return respond({"claim_id": claim.claim_id})

    async def undo(self, request: Request) -> Response:
        """Take a label or a skip back; the reviewer has it again, if nobody else has."""
        body = await _fields(request, "claim_id")
        found, _ = await run_in_threadpool(reviews.find, self._engine, body["claim_id"])
        claim = found.claim
        if "labeled" in found.steps:
            retracted = {"kind": "retraction", "retracts": f"review-{claim.claim_id}"}
            await self._store(claim, f"undo-{claim.claim_id}", {**retracted, **_about(claim)})
            await run_in_threadpool(reviews.note, self._engine, claim, "unlabeled")
        elif "skipped" in found.steps:
            await run_in_threadpool(reviews.note, self._engine, claim, "unskipped")
        else:
            raise ContractError(
                "claim_id", "a claim that was labelled or skipped", body["claim_id"]
            )
        return respond(await run_in_threadpool(self._reclaimed, claim))

    def _reclaimed(self, before: Claim) -> dict[str, Any]:
        claim = reviews.claim_again(self._engine, before)
        rows = reviews.queue(self._engine, before.model)
        by_id = {row.prediction_id(before.model): row for row in rows}
        return {
            "claim": self._details(claim, by_id.get(claim.prediction_id)) if claim else None,
            "waiting": len(rows),
            **reviews.progress(self._engine, before.model, before.reviewer),
        }

    async def _store(self, claim: Claim, feedback_id: str, said: Mapping[str, Any]) -> bool:
        """Store feedback; false where the id is stored with another content."""
        at = await run_in_threadpool(reviews.said_at, self._engine, claim.model)
        event = parse(
            "feedback", {**said, "feedback_id": feedback_id, "event_time": at.isoformat()}
        )
        stored = self._log.submit("feedback", [Filled(event, ["event_time"])])
        (receipt,) = await receipts_of(stored)
        if receipt.status == "rejected":
            raise ContractError("label", f"storable ({receipt.reason})", said.get("label"))
        return receipt.status != "conflict"

    def _details(self, claim: Claim, row: Candidate | None) -> dict[str, Any]:
        """What a reviewer is shown. Not what others said, so that opinions stay independent."""
        named = [claim.model, claim.request_id, claim.item_id]
        (asked,) = self._engine.rows(
            f"""
            select features, input, segment, user_id, event_time, {_OUTPUTS}
            from events.inference
            where model = %s and request_id = %s and item_id is not distinct from %s
            """,
            named,
        )
        shadows = self._engine.rows(
            f"""
            select {_OUTPUTS}
            from events.inference
            where model = %s and shadow_of = %s and item_id is not distinct from %s
            order by model_version
            """,
            named,
        )
        given = ("features", "input", "segment", "user_id", "event_time")
        return {
            "claim_id": claim.claim_id,
            "expires_at": claim.expires_at,
            "model": claim.model,
            "request_id": claim.request_id,
            "item_id": claim.item_id,
            **{name: asked[name] for name in given},
            "why": _shown(row) if row else None,
            "answers": [
                {name: value for name, value in answer.items() if name not in given}
                for answer in (asked, *shadows)
            ],
            "classes": self._classes(claim.model, asked["probabilities"] or {}),
        }

    def _classes(self, model: str, probabilities: Mapping[str, Any]) -> list[str]:
        """The labels of a model in a fixed order, as its version spells them."""
        rows = self._engine.rows(
            """
            select label as name, examples from panes.label_counts
            where model = %s and label is not null and examples > 0
            union all
            select prediction as name, predictions as examples from panes.prediction_counts
            where model = %s and prediction is not null and predictions > 0
            order by examples desc
            """,
            [model, model],
        )
        found: dict[str, str] = {}
        for name in [*probabilities, *(row["name"] for row in rows)]:
            found.setdefault(class_of(name), name)
        return sorted(list(found.values())[:MAX_CLASSES], key=_natural)


def page() -> Response:
    """The page, which holds nothing of what is reviewed and may do nothing but ask the gateway."""
    text = PAGE.read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(text, headers=headers)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _about(claim: Claim) -> dict[str, Any]:
    return {
        "request_id": claim.request_id,
        "model": claim.model,
        "item_id": claim.item_id,
        "source": "human",
        "user_id": claim.reviewer,
        "metadata": {"claim_id": claim.claim_id},
    }


def _shown(row: Candidate) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Candidate.__dataclass_fields__}


async def _fields(request: Request, *names: str) -> dict[str, Any]:
    """Return the body, an object with exactly these fields.

    Raises:
        ContractError: names the field, what is allowed and what came.
    """
    body = await read_json(request)
    if not isinstance(body, Mapping):
        raise ContractError("", f"an object with {', '.join(names)}", body)
    for name in body:
        if name not in names:
            raise ContractError(str(name), f"one of {', '.join(names)}", body[name])
    for name in names:
        if body.get(name) is None:
            raise ContractError(name, "given", None)
    return dict(body)


def _named(name: str, value: object) -> str:
    """Return a name as it can be stored.

    Raises:
        ContractError: it is none.
    """
    allowed = f"a printable name of 1 to {MAX_ID} bytes in UTF-8"
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ContractError(name, allowed, value)
    if len(value.encode(errors="replace")) > MAX_ID:
        raise ContractError(name, allowed, value)
    return value.strip() if name == "reviewer" else value


def _natural(name: str) -> tuple[bool, float, str]:
    """Numbers by their size, before words."""
    try:
        return False, float(name), name
    except ValueError:
        return True, 0.0, class_of(name)

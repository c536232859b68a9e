"""``POST /v1/neighbours``: the inputs nearest to a text or to the input of a request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.gateway.wire import HttpError, read_json, respond
from headrace.vectors.neighbours import nearest, vector_of_request, vector_of_text

FIELDS = ("model", "text", "request_id", "k")
FEW, MOST = 10, 100


class Neighbours:
    """The handler. It embeds one text at a time, so that predictions go on beside it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._one = threading.Lock()

    async def find(self, request: Request) -> Response:
        body = await read_json(request)
        if not self._engine.dialect.has_vectors:
            raise HttpError(
                501, "not_supported",
                "vectors of inputs need HEADRACE_ENGINE=postgres, "
                f"got {self._engine.dialect.name}",
            )  # fmt: skip
        return respond(await run_in_threadpool(self._found, body))

    def _found(self, body: Any) -> dict[str, Any]:
        model, text, request_id, most = _checked(body)
        if request_id is not None:
            vector = vector_of_request(self._engine, model, request_id)
        else:
            with self._one:
                vector = vector_of_text(self._engine, model, text)
        near = nearest(self._engine, model, vector, most, without=request_id)
        return {"model": model, "base": vector.base, "neighbours": near}


def _checked(body: Any) -> tuple[str, str, str | None, int]:
    """Return model, text ("" where a request is given), request_id and k.

    Raises:
        ContractError: a field is missing, not known or not allowed.
    """
    if not isinstance(body, Mapping):
        raise ContractError("", f"an object with {', '.join(FIELDS)}", body)
    for name in body:
        if name not in FIELDS:
            raise ContractError(str(name), f"one of {', '.join(FIELDS)}", body[name])
    model, text, request_id = (body.get(name) for name in ("model", "text", "request_id"))
    for name, value in (("model", model), ("text", text), ("request_id", request_id)):
        if value is None and name != "model":
            continue
        if not isinstance(value, str) or not value.strip() or not _is_storable(value):
            raise ContractError(name, "a text that is not blank, without NUL, in UTF-8", value)
    if (text is None) == (request_id is None):
        raise ContractError("text", "given, or else request_id, and not both", text)
    most = body.get("k", FEW)
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= MOST:
        raise ContractError("k", f"a whole number from 1 to {MOST}", most)
    return str(model), text or "", request_id, most


def _is_storable(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False

"""What travels over HTTP: JSON bodies in, JSON answers out, one shape for every error."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import ContractError, shorten

MAX_BODY = 32 * 1024 * 1024
MAX_ITEMS = 10_000


class HttpError(Exception):
    """An answer other than success: `status`, a `kind` for programs and a line for people."""

    def __init__(
        self, status: int, kind: str, message: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        return {"error": {"type": self.kind, "message": str(self)}}

    def response(self) -> Response:
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return answer(self.body(), self.status, headers)


def answer(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def describe(error: ContractError) -> dict[str, str]:
    """What broke the contract, for an answer."""
    return {
        "field": error.field,
        "allowed": error.allowed,
        "got": error.got,
        "message": str(error),
    }


async def read_json(request: Request) -> Any:
    """Read and decode the body.

    Raises:
        HttpError: 415 where it is not said to be JSON, as no page of another site can say unasked;
            413 where it is larger than MAX_BODY bytes, 400 where it is not JSON.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise HttpError(
            415, "content_type",
            f"Content-Type: must be application/json, got {shorten(kind) if kind else 'none'} "
            "(curl: -H 'content-type: application/json')",
        )  # fmt: skip
    declared = request.headers.get("content-length", "")
    body = bytearray()
    if not declared.isdigit() or int(declared) <= MAX_BODY:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                break
        else:
            return decode(bytes(body))
    raise HttpError(413, "too_large", f"a request must be at most {MAX_BODY} bytes long")


def decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, "bad_json", f"the body is not JSON: {error}") from None


async def read_items(request: Request) -> tuple[list[Any], bool]:
    """Read an object or an array of them: (items, whether it was an array).

    Raises:
        HttpError: as `read_json`, and 413 for more than MAX_ITEMS items.
    """
    content = await read_json(request)
    if not isinstance(content, list):
        return [content], False
    if len(content) > MAX_ITEMS:
        raise HttpError(
            413, "too_large", f"an array must hold at most {MAX_ITEMS} items, got {len(content)}"
        )
    return content, True

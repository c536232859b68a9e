"""What travels over HTTP: JSON bodies in, JSON answers out, one shape for every error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import ContractError, shorten

MAX_BODY = 32 * 1024 * 1024
MAX_ITEMS = 10_000
# Brackets in brackets that are read: more than the contract lets through anywhere.
MAX_DEPTH = 100


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


# A browser sends one of them with every body.
_BROWSERS = frozenset({"origin", "sec-fetch-site"})


async def read_json(request: Request) -> Any:
    """Read and decode the body.

    Raises:
        HttpError: 415 where it is said to be something else, or nothing is said by a browser: no
            page of another site can have one say that it is JSON, unasked. 413 where it is larger
            than MAX_BODY bytes, 400 where it is not JSON.
    """
    kind = request.headers.get("content-type", "")
    is_json = kind.partition(";")[0].strip().lower() == "application/json"
    if not is_json and (kind or not _BROWSERS.isdisjoint(request.headers)):
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
            try:
                return msgspec.json.decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                # Slower, so that other requests go on meanwhile.
                return await run_in_threadpool(decode_leniently, bytes(body))
    raise HttpError(413, "too_large", f"a request must be at most {MAX_BODY} bytes long")


def decode_leniently(body: bytes) -> Any:
    """Decode a body of which one place is no JSON, so that the contract can refuse it by name.

    NaN, infinities and numbers without end become doubles, bytes that are no UTF-8 lone
    surrogates; what is nested deeper than MAX_DEPTH is cut off there. None of these can be stored.

    Raises:
        HttpError: 400 where it is not JSON otherwise.
    """
    text = body.decode(errors="surrogateescape")
    try:
        try:
            return _LENIENT.decode(text)
        except RecursionError:
            return _LENIENT.decode("".join(_cut(text)))
    except ValueError as error:
        raise HttpError(400, "bad_json", f"the body is not JSON: {error}") from None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 400 else float(digits)


_LENIENT = json.JSONDecoder(parse_int=_number, strict=False)
# A string, also one that does not end, or a bracket.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _cut(text: str) -> Iterator[str]:
    """Yield the text, with a word in place of what is nested too deep."""
    depth = kept = 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                yield text[kept : token.start()]
        elif token[0] in ("]", "}"):
            if depth == MAX_DEPTH + 1:
                yield '"nested too deep"'
                kept = token.end()
            depth -= 1
    if depth <= MAX_DEPTH:
        yield text[kept:]


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

"""JSON over HTTP: read request bodies, write responses, one shape for every error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from headrace.errors import (
    BusyError,
    ContractError,
    EngineError,
    HeadraceError,
    ModelError,
    NotLoadedError,
    NotServedError,
    shorten,
)

MAX_BODY = 32 * 1024 * 1024
MAX_ITEMS = 10_000
# Deepest nesting that is read; the contract allows less.
MAX_DEPTH = 100


class HttpError(Exception):
    """A response other than success.

    Attributes:
        status: of HTTP.
        kind: the type of the error, for programs; `message` is one line for people.
        retry_after_s: when to send the request again, if that helps.
        details: more about the error, for programs.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        retry_after_s: int | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.details = details or {}

    def body(self) -> dict[str, Any]:
        return {"error": {"type": self.kind, "message": str(self), **self.details}}

    def response(self) -> Response:
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return respond(self.body(), self.status, headers)


# The errors of Headrace that a request may end in.
EXPECTED = (ContractError, BusyError, ModelError, EngineError)
# The status, type and Retry-After of each kind of error, the most special ones first.
_STATUS: tuple[tuple[type[HeadraceError], int, str, int | None], ...] = (
    (ContractError, 422, "contract", None),
    (BusyError, 429, "busy", BusyError.retry_after_s),
    (NotServedError, 404, "not_served", None),
    (NotLoadedError, 503, "not_loaded", 1),
    (ModelError, 500, "model", None),
    (EngineError, 503, "engine", 1),
)


def http_error(error: HeadraceError) -> HttpError:
    """Return the response for one of the `EXPECTED` errors."""
    details = describe(error) if isinstance(error, ContractError) else None
    status, kind, retry_after_s = next(row[1:] for row in _STATUS if isinstance(error, row[0]))
    return HttpError(status, kind, str(error), retry_after_s=retry_after_s, details=details)


def respond(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with `content` as JSON."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def describe(error: ContractError) -> dict[str, str]:
    """Return the field that broke the contract, what is allowed and what came."""
    return {
        "field": error.field,
        "allowed": error.allowed,
        "got": error.got,
        "message": str(error),
    }


# Browsers send at least one of these headers with a body.
_BROWSERS = frozenset({"origin", "sec-fetch-site"})


async def read_json(request: Request) -> Any:
    """Read and decode the body.

    Raises:
        HttpError: 415 for another content type, or none from a browser (pages of other sites cannot
            send JSON without a preflight request); 413 for more than MAX_BODY bytes; 400 for a body
            that is not JSON.
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
                # It is slow, so other requests go on meanwhile.
                return await run_in_threadpool(decode_leniently, bytes(body))
    raise HttpError(413, "too_large", f"a request must be at most {MAX_BODY} bytes long")


def decode_leniently(body: bytes) -> Any:
    """Decode a body that is almost JSON, so that the contract rejects only the items at fault.

    NaN and infinities (`nan` and `inf`, too) and very long numbers become doubles, bytes that are
    not UTF-8 lone surrogates; nesting deeper than MAX_DEPTH is cut off. None of it can be stored.

    Raises:
        HttpError: 400 for anything else that is not JSON.
    """
    text = _BARE.sub(_named, body.decode(errors="surrogateescape"))
    try:
        try:
            return _LENIENT.decode(text)
        except RecursionError:
            return _LENIENT.decode("".join(_cut(text)))
    except ValueError as error:
        raise HttpError(400, "bad_json", f"the body is not JSON: {error}") from None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) < 400 else float(digits)


# A string, terminated or not.
_STRING = r'"(?:[^"\\]++|\\.)*+"?'
# A string, or a bare word of C, R or Python for what is no number.
_BARE = re.compile(_STRING + r"|[-+]?\b(?:nan|inf)\b", re.DOTALL | re.IGNORECASE)


def _named(token: re.Match[str]) -> str:
    return token[0] if token[0].startswith('"') else "NaN"


_LENIENT = json.JSONDecoder(parse_int=_number, strict=False)
# A string or a bracket.
_TOKEN = re.compile(_STRING + r"|[\[\]{}]", re.DOTALL)


def _cut(text: str) -> Iterator[str]:
    """Yield the text with a string in place of what is nested too deep."""
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
    """Read an object or an array of objects and return (items, whether it was an array).

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

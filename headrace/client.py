"""The client: send predictions of your model, and feedback on them, to Headrace.

    from headrace import Client

    with Client() as client:
        request_id = client.inference(model="churn", prediction="stays", score=0.2)
        client.feedback(request_id, label="leaves")

Events are checked at the call, queued, and sent in batches by a background thread. The client makes
the ids, so that a batch that is sent again is counted once.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import httpx
import msgspec

from headrace.errors import ContractError, DeliveryError
from headrace.events.contract import Topic, parse

logger = logging.getLogger(__name__)

MAX_BATCH = 1_000
MAX_BATCH_BYTES = 4 * 1024 * 1024
BACKOFF_S = (0.1, 10.0)
_PATHS: dict[Topic, str] = {"inference": "/v1/inferences", "feedback": "/v1/feedback"}
_Queued = tuple[Topic, bytes]


class Client:
    """Sends events to a gateway. A context manager; threads may share it, forks may not.

    Args:
        url: address of the gateway.
        linger_s: how long a batch waits for more events, in seconds.
        max_queue: most events in the queue.
        on_full: what a call does when the queue is full: wait, or raise DeliveryError.
        on_error: called from the background thread with a DeliveryError for each batch that was not
            stored whole; it is logged in any case.
        timeout_s: how long one request may take, in seconds.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8321",
        *,
        linger_s: float = 0.05,
        max_queue: int = 10_000,
        on_full: Literal["block", "raise"] = "block",
        on_error: Callable[[DeliveryError], None] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        if on_full not in ("block", "raise"):
            raise ValueError(f"on_full: must be 'block' or 'raise', got {on_full!r}")
        if max_queue < 1:
            raise ValueError(f"max_queue: must be at least 1, got {max_queue}")
        self._linger_s = linger_s
        self._max_queue = max_queue
        self._on_full = on_full
        self._on_error = on_error
        kind = {"Content-Type": "application/json"}
        self._http = httpx.Client(base_url=url, timeout=timeout_s, headers=kind)
        self._queue: deque[_Queued] = deque()
        self._in_flight = 0
        self._changed = threading.Condition()
        self._flushing = False  # a caller waits for a flush
        self._closed = False
        self._giving_up = threading.Event()  # no time left to retry
        self._thread = threading.Thread(target=self._run, name="headrace-client", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def inference(self, **fields: Any) -> str:
        """Queue one prediction of a model and return its request_id.

        Fields are those of `headrace.events.contract.Inference`: `model`, `prediction`, `score`,
        `features`, `segment`, `input`, …

        Raises:
            ContractError: a field breaks the contract; nothing was queued.
            DeliveryError: the client is closed, or its queue is full and `on_full` is "raise".
        """
        return self._put("inference", fields).request_id  # type: ignore[no-any-return]

    def feedback(self, request_id: str, **fields: Any) -> str:
        """Queue feedback on a request and return its feedback_id.

        Fields are those of `headrace.events.contract.Feedback`: `label`, `value`, `kind`, …, and
        `model` and `item_id` of a request that has several predictions.
        Raises as `inference` does.
        """
        event = self._put("feedback", {"request_id": request_id, **fields})
        return event.feedback_id  # type: ignore[no-any-return]

    def predict(self, model: str, **fields: Any) -> dict[str, Any]:
        """Have the serving version of `model` predict, and return the response.

        Fields are `text` or `input`, `features`, `segment`, `request_id`, `user_id`, …; the
        response has `request_id`, `model_version`, `prediction`, `score` and `scores`. The gateway
        logs the inference itself.

        Raises:
            ContractError: a field breaks the contract.
            DeliveryError: the gateway cannot be reached, or has no version that serves.
        """
        body = _encode({"model": model, **fields})
        try:
            response = self._http.post("/v1/predict", content=body)
        except httpx.HTTPError as error:
            raise DeliveryError(f"cannot reach the gateway: {_line(error)}") from None
        content = _content(response)
        if response.status_code == 200:
            return content
        if response.status_code == 422:
            broken = content["error"]
            raise ContractError(broken["field"], broken["allowed"], fields.get(broken["field"]))
        raise DeliveryError(_refusal(response))

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until the queue is delivered; False if that takes longer than `timeout_s`."""
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: not self._queue and not self._in_flight, timeout_s
            )

    def close(self, timeout_s: float = 30.0) -> None:
        """Deliver the queue, for at most `timeout_s` seconds, and stop."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        atexit.unregister(self.close)
        self._thread.join(timeout_s)
        self._giving_up.set()
        self._thread.join()
        self._http.close()

    def _put(self, topic: Topic, fields: dict[str, Any]) -> Any:
        event = parse(topic, fields)
        item = (topic, _encode(event))
        with self._changed:
            if not self._closed and len(self._queue) >= self._max_queue:
                if self._on_full == "raise":
                    raise DeliveryError(f"{len(self._queue)} events are queued already (max_queue)")
                self._changed.wait_for(lambda: self._closed or len(self._queue) < self._max_queue)
            if self._closed:
                raise DeliveryError("the client is closed")
            self._queue.append(item)
            if len(self._queue) in (1, MAX_BATCH):
                self._changed.notify_all()
        return event

    def _run(self) -> None:
        while batch := self._take():
            for topic in _PATHS:
                bodies = [body for kind, body in batch if kind == topic]
                if bodies:
                    self._deliver(topic, bodies)
            with self._changed:
                self._in_flight = 0
                self._changed.notify_all()

    def _take(self) -> list[_Queued]:
        with self._changed:
            if not self._queue:
                self._flushing = False
            self._changed.wait_for(lambda: self._queue or self._closed)
            self._changed.wait_for(
                lambda: self._closed or self._flushing or len(self._queue) >= MAX_BATCH,
                self._linger_s,
            )
            batch: list[_Queued] = []
            size = 0
            while self._queue and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
                batch.append(self._queue.popleft())
                size += len(batch[-1][1])
            self._in_flight = len(batch)
            self._changed.notify_all()
            return batch

    def _deliver(self, topic: Topic, bodies: Sequence[bytes]) -> None:
        """Post a batch until the gateway accepts or rejects it.

        A loop and not `tenacity`: an application that installs only the client needs no third
        package, and the pause follows Retry-After and ends with `close`.
        """
        content = b"[" + b",".join(bodies) + b"]"
        problem = "the client was closed"
        for pause in _pauses():
            try:
                response = self._http.post(_PATHS[topic], content=content)
            except httpx.HTTPError as error:
                problem = _line(error)
            else:
                if response.status_code in (200, 201, 422):
                    self._check(topic, len(bodies), response)
                    return
                problem = _refusal(response)
                if response.status_code < 500 and response.status_code != 429:
                    break
                pause = max(pause, _retry_after(response))
            logger.info("will send %d %s events again: %s", len(bodies), topic, problem)
            if self._giving_up.wait(pause):
                break
        self._report(f"{len(bodies)} {topic} events were not delivered: {problem}")

    def _check(self, topic: Topic, sent: int, response: httpx.Response) -> None:
        content = _content(response)
        rejected, conflicting = content.get("rejected"), content.get("conflicting")
        if conflicting:
            first = conflicting[0]
            self._report(
                f"{len(conflicting)} of {sent} {topic} events were kept out: their ids are stored "
                f"with other content, such as {', '.join(first['fields'])} of {first['id']!r}; "
                "see headrace.conflicting_events"
            )
        if rejected:
            self._report(
                f"{len(rejected)} of {sent} {topic} events were rejected, the first because "
                f"{rejected[0]['message']}"
            )

    def _report(self, message: str) -> None:
        logger.error(message)
        if self._on_error is None:
            return
        try:
            self._on_error(DeliveryError(message))
        except Exception:
            logger.exception("on_error failed")


def _encode(content: object) -> bytes:
    try:
        return msgspec.json.encode(content)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ContractError("", f"JSON ({error})", content) from None


def _content(response: httpx.Response) -> dict[str, Any]:
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _refusal(response: httpx.Response) -> str:
    error = _content(response).get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return f"the gateway responded {response.status_code}: {message or response.reason_phrase}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _pauses() -> Iterator[float]:
    pause, longest = BACKOFF_S
    while True:
        yield pause
        pause = min(pause * 2, longest)


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0

"""Replay of recorded events through the gateway: faster, in the same order.

Steps are sent in ticks: the predictions of a tick in one request, then its feedback in one. The
order within a topic is kept, and feedback that came before its inference is still sent first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import httpx

from headrace.errors import DeliveryError

MAX_TICK = 48
RETRY_S = 0.2
GIVE_UP_S = 60.0


@dataclass(frozen=True)
class Step:
    """One recorded event: its time, and the body to send to the gateway."""

    time: datetime
    kind: Literal["predict", "feedback"]
    body: Mapping[str, Any]


@dataclass
class Tick:
    """Steps that are sent together."""

    time: datetime
    predictions: list[Mapping[str, Any]] = field(default_factory=list)
    feedback: list[Mapping[str, Any]] = field(default_factory=list)


def ticks(steps: Iterable[Step], limit: int = MAX_TICK) -> Iterator[Tick]:
    """Group steps, in order of time, into ticks of at most `limit` predictions.

    A tick ends before an inference whose feedback it already has: that feedback is sent first.
    """
    tick: Tick | None = None
    labeled: set[str] = set()
    for step in steps:
        early = step.kind == "predict" and step.body["request_id"] in labeled
        if tick is not None and (
            early or len(tick.predictions) >= limit or len(tick.feedback) >= 4 * limit
        ):
            yield tick
            tick, labeled = None, set()
        tick = tick or Tick(step.time)
        tick.time = step.time
        if step.kind == "predict":
            tick.predictions.append(step.body)
        else:
            tick.feedback.append(step.body)
            labeled.add(step.body["request_id"])
    if tick is not None:
        yield tick


class Replay:
    """Sends ticks to a gateway; until a version serves, logs inferences without a prediction.

    Args:
        url: address of the gateway.
        model: name of the model in the events.
    """

    def __init__(self, url: str, model: str) -> None:
        self.model = model
        self.predicted = self.logged = 0
        self._http = httpx.Client(base_url=url, timeout=60)
        self._serving = False

    def close(self) -> None:
        self._http.close()

    def plan(self) -> list[dict[str, Any]]:
        """Return the gateway's versions of the model, and whether they are loaded."""
        found = self._http.get("/v1/plan").json()["versions"]
        return [row for row in found if row["model"] == self.model]

    def send(self, tick: Tick) -> None:
        """Send one tick.

        Raises:
            DeliveryError: the gateway rejected an event or did not respond for a minute.
        """
        if tick.predictions:
            self._serving = self._serving or any(row["loaded"] for row in self.plan())
            bodies = [{"model": self.model, **body} for body in tick.predictions]
            if self._serving:
                self._post("/v1/predict", bodies)
                self.predicted += len(bodies)
            else:
                self._post("/v1/inferences", [{**body, "model_version": "none"} for body in bodies])
                self.logged += len(bodies)
        if tick.feedback:
            self._post("/v1/feedback", tick.feedback)

    def _post(self, path: str, bodies: Sequence[Mapping[str, Any]]) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            try:
                response = self._http.post(path, json=list(bodies))
            except httpx.TransportError as error:
                if time.monotonic() > deadline:
                    raise DeliveryError(f"the gateway does not respond: {error}") from None
                time.sleep(RETRY_S)
                continue
            if response.is_success:
                return
            if response.status_code not in (429, 503) or time.monotonic() > deadline:
                raise DeliveryError(f"{path}: {response.status_code}: {response.text[:300]}")
            time.sleep(RETRY_S)

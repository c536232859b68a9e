"""What reviewers do over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx

from headrace.control.owner import owner_key, reviewer_key
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.settings import Settings


def key(settings: Settings) -> str:
    return reviewer_key(owner_key(settings)).value


@contextmanager
def reviewing(url: str, settings: Settings) -> Iterator[httpx.Client]:
    """A client that has the reviewers' key."""
    headers = {"Authorization": f"Bearer {key(settings)}"}
    with httpx.Client(base_url=url, timeout=60, headers=headers) as client:
        yield client


def ask(client: httpx.Client, what: str, **body: Any) -> dict[str, Any]:
    """Return the answer, which must be a success."""
    response = client.post(f"/v1/review/{what}", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def predict(engine: Engine, *fields: Mapping[str, Any], feedback: Any = ()) -> None:
    """Store predictions of model m, made now, the first ones the least certain."""
    now = datetime.now(UTC).isoformat()
    with EventLog(engine) as log:
        asked = [
            {
                "model": "m", "model_version": "7", "request_id": f"r{number}", "event_time": now,
                "prediction": "spam", "score": 0.5 + number / 1000,
                "probabilities": {"spam": 0.5 + number / 1000, "ham": 0.5 - number / 1000}, **own,
            }
            for number, own in enumerate(fields)
        ]  # fmt: skip
        log.append("inference", [parse("inference", each) for each in asked])
        if feedback:
            log.append("feedback", [parse("feedback", {"event_time": now, **f}) for f in feedback])

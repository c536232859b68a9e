"""Histories of segments as plain events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.events.contract import parse
from headrace.events.log import EventLog

START = datetime(2024, 5, 1, 9, 0, tzinfo=UTC)


class Labels:
    """Sends predictions of a model and their labels."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._count = 0

    def send(self, *rows: tuple[str, str | None, datetime, str]) -> None:
        """Send (model, segment, time of the label, label): both events of each, in one batch."""
        inferences: list[dict[str, Any]] = []
        feedback: list[dict[str, Any]] = []
        for model, segment, known_at, label in rows:
            self._count += 1
            name = f"r{self._count}"
            asked = (known_at - timedelta(hours=1)).isoformat()
            inferences.append(
                {"request_id": name, "model": model, "segment": segment, "event_time": asked}
                | {"prediction": "yes", "score": 0.9}
            )
            feedback.append(
                {"feedback_id": f"f{self._count}", "request_id": name, "label": label}
                | {"kind": "label", "event_time": known_at.isoformat()}
            )
        self._log.append("inference", [parse("inference", row) for row in inferences])
        self._log.append("feedback", [parse("feedback", row) for row in feedback])

"""Versions that are trained and promoted before a stream begins."""

from __future__ import annotations

from datetime import timedelta

from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.drift_oracle import Champion
from tests.support.streams import START, send


def promote(log: EventLog, champions: dict[str, Champion]) -> None:
    events: list[tuple[Topic, Event]] = []
    for model, champion in champions.items():
        metrics = {}
        if champion.train:
            metrics = dict(
                zip(
                    ("train_from", "train_to"),
                    (time.timestamp() for time in champion.train),
                    strict=True,
                )
            )
        for number, event in enumerate(("trained", "promoted")):
            payload = {
                "event_id": f"{model} {event}",
                "event_time": START + timedelta(seconds=number),
                "model": model,
                "model_version": champion.model_version,
                "event": event,
                "metrics": metrics,
            }
            payload["event_time"] = payload["event_time"].isoformat()  # type: ignore[attr-defined]
            events.append(("model_events", parse("model_events", payload)))
    send(log, events)

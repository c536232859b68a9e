"""Versions that are trained and promoted before a stream begins."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st

from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.drift_oracle import Champion
from tests.support.streams import START, send

_hours = st.integers(0, 40)
# Between which hours of a stream a version was trained, as far as that is known.
training_hours = st.one_of(st.none(), st.tuples(_hours, _hours))


def trained(model_version: str, hours: tuple[int, int] | None, factor: int = 1) -> Champion:
    """A version trained between two hours, in any order, of a stream that is `factor` as long.

    None instead of hours: it is not known what it was trained on.
    """
    if hours is None:
        return Champion(model_version, None)
    first, last = sorted(START + timedelta(hours=h) * factor for h in hours)
    return Champion(model_version, (first, last + timedelta(minutes=7)))


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

"""An answer a minute of two models, with feedback of all kinds, and the lives of one's versions."""

from __future__ import annotations

from typing import Any

from headrace.events.contract import Event, Topic, parse


def story(start: int, stop: int) -> list[tuple[Topic, Event]]:
    """Inferences `start` to `stop` a minute apart, with clicks, revised labels and orphans."""
    events: list[tuple[Topic, dict[str, Any]]] = []
    for i in range(start, stop):
        day, minute = f"2024-05-0{1 + i // 1000}", f"{i % 1000 // 60:02d}:{i % 60:02d}"
        asked = {
            "request_id": f"r{i}",
            "event_time": f"{day}T{minute}:00Z",
            "model": "m" if i % 3 else "n",
            "model_version": f"v{i % 2}",
            "segment": "ab"[i % 2],
            "features": {"x": i, "c": "pq"[i % 2], "gone": None},
            "prediction": "yes" if i % 5 else "no",
            "score": i % 100 / 100,
            "latency_ms": i % 7,
        }
        said = {"request_id": f"r{i}", "event_time": f"{day}T{minute}:30Z"}
        events += [
            ("feedback", {**said, "feedback_id": f"f{i}", "label": "yes" if i % 4 else "no"}),
            ("inference", asked),
        ]
        if i % 10 == 0:
            late = {**said, "event_time": f"{day}T{minute}:45Z"}
            events += [
                ("feedback", {**late, "feedback_id": f"g{i}", "label": "no"}),
                ("feedback", {**late, "feedback_id": f"z{i}", "kind": "correction"}
                 | {"label": "yes"}),
                ("feedback", {**late, "feedback_id": f"o{i}", "request_id": f"unseen{i}"}
                 | {"label": "yes"}),
            ]  # fmt: skip
    return [(topic, parse(topic, payload)) for topic, payload in events]


def lives() -> list[tuple[Topic, Event]]:
    """Versions v0 and v1 of model m: promoted, a canary, promoted, taken back."""
    steps = [("v0", "trained"), ("v0", "promoted"), ("v1", "canary"), ("v1", "promoted")]
    steps.append(("v1", "rolled_back"))
    return [
        (
            "model_events",
            parse(
                "model_events",
                {
                    "event_id": f"e{hour}",
                    "event_time": f"2024-05-01T0{hour}:00:00Z",
                    "model": "m",
                    "model_version": version,
                    "event": event,
                    "traffic": 0.2 if event == "canary" else None,
                    "artifact_uri": f"m/{version}",
                },
            ),
        )
        for hour, (version, event) in enumerate(steps)
    ]

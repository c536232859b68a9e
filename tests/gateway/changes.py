"""Each request that changes something, and whether any of them did."""

from __future__ import annotations

from typing import Any

from headrace.engine import Engine

PROMOTED = {"model": "m", "model_version": "9", "event": "promoted", "event_id": "e"}
# Each of the requests that change something: method, path and a body that is right.
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/inferences", {"model": "m", "request_id": "r"}),
    ("POST", "/v1/feedback", {"request_id": "r", "label": "yes"}),
    ("POST", "/v1/model-events", PROMOTED),
    ("POST", "/v1/model-events", {**PROMOTED, "event": "rolled_back"}),
    ("POST", "/v1/predict", {"model": "m"}),
    ("POST", "/v1/review/claim", {"model": "m", "reviewer": "ann"}),
    ("PUT", "/v1/models/m/policies", {"min_new_labels": 1}),
    ("PUT", "/v1/models/*/policies", {"min_new_labels": 1}),
]


def untouched(engine: Engine) -> bool:
    """Whether the database holds what it held at first."""
    own = engine.rows(
        "select * from control.policies "
        "where model = 'm' or (policy = 'min_new_labels' and value = '1')"
    )
    tables = (
        "events.inference", "events.feedback", "events.model_events", "events.rejected",
        "control.reviews",
    )  # fmt: skip
    return not own and not any(engine.rows(f"select * from {table}") for table in tables)

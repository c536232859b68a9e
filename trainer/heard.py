"""What had been said by a claim, and the policies that make labels of it, as queries read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from headrace.trainer.label_sql import staged_feedback

# What the labels need to know of a prediction, without its input, which may be long.
NARROW = ", ".join(
    f"inference.{name}"
    for name in (
        "request_id", "model", "model_version", "variant", "segment", "user_id", "session_id",
        "item_id", "shadow_of", "event_time", "ingested_at", "prediction", "score", "propensity",
        "target_propensity", "position",
    )
)  # fmt: skip
_HEARD = """
known_feedback as (
    select f.*
    from (select distinct request_id from {predictions}) as requests
    inner join events.feedback as f on requests.request_id = f.request_id
    where f.ingested_at <= %(known_at)s
),

feedback as ({feedback}),

kinds as (
    select '*' as model, kind, wins, priority, 1::double precision as weight
    from (values {kinds}) as policies (kind, wins, priority)
)
"""


def heard(dialect: str, predictions: str, kinds: str) -> str:
    """Return two common table expressions: `feedback` on predictions by `known_at`, and `kinds`.

    Args:
        dialect: name of the engine's.
        predictions: relation with their request_id.
        kinds: the label policies as `label_policies` returns them.
    """
    feedback = staged_feedback(dialect, "known_feedback")
    return _HEARD.format(predictions=predictions, feedback=feedback, kinds=kinds).strip()


def label_policies(query: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the label policies of a query as rows of VALUES, and all parameters of the query."""
    parameters: dict[str, Any] = {
        **{name: value for name, value in query.items() if name != "label_policies"},
        "known_at": datetime.fromisoformat(query["known_at"]),
        "event_clock": datetime.fromisoformat(query["event_clock"]),
    }
    kinds = []
    for number, policy in enumerate(query["label_policies"]):
        kinds.append(f"(%(kind{number})s::text, %(wins{number})s::text, %(priority{number})s::int)")
        parameters |= {f"{name}{number}": value for name, value in policy.items()}
    return ", ".join(kinds), parameters

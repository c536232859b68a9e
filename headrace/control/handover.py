"""Start and stop the training of a model: `headrace train` sets its policy `learn`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from headrace.control import policies
from headrace.engine import Engine


def hand_over(engine: Engine, model: str, *, learns: bool) -> dict[str, Any]:
    """Set the policy `learn` of a model and return `model`, `learns` and `triggers`.

    `triggers` holds the model's row of ``headrace.retrain_trigger``, or none before its first
    event. The model `*` sets the default of all models; `triggers` then holds the rows of all.

    Raises:
        ContractError: no model can have this name.
    """
    policies.write(engine, model, {"learn": "on" if learns else "off"})
    triggers = engine.rows(
        """
        select
            triggers.model, triggers.due, triggers.reason, triggers.held_back_by,
            triggers.new_labels, triggers.model_version, policies.min_new_labels, policies.learns
        from headrace.retrain_trigger as triggers
        inner join headrace.model_policies as policies on triggers.model = policies.model
        where %s in (triggers.model, '*')
        order by triggers.model
        """,
        [model],
    )
    return {"model": model, "learns": learns, "triggers": triggers}


def told(report: dict[str, Any]) -> Iterator[str]:
    """Yield what `hand_over` returned as lines for a person."""
    model = report["model"]
    whole = model == policies.ALL_MODELS
    name = "every model without a policy learn of its own" if whole else model
    if not report["learns"]:
        yield f"{name} is watched only: nothing is trained or promoted; the serving version stays"
    else:
        yield f"{name} learns: a version is trained when a retrain is due, and promoted when better"
    for row in report["triggers"]:
        if row["learns"]:
            yield f"{row['model']}: {_next(row)}"
    if report["learns"] and not report["triggers"]:
        yield "no event has come yet: a retrain is due once there are enough labels"
    if report["learns"]:
        yield "promoted versions serve the gateway's predictions (POST /v1/predict), nothing else"
        yield f"to stop this: headrace train {shlex.quote(model)} --off"


def _next(row: dict[str, Any]) -> str:
    if row["due"]:
        return f"a retrain is due ({row['reason']}); a running trainer takes it (headrace up)"
    if row["held_back_by"]:
        return f"a retrain is held back: {row['held_back_by']} ({row['reason']})"
    return f"nothing is due yet ({row['new_labels']} new labels, of {row['min_new_labels']:.0f})"

"""Thresholds of a model, as rows of ``control.policies``; those of model ``*`` are the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.rows import dict_row

from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.events import MAX_ID

ALL_MODELS = "*"


def read(engine: Engine, model: str) -> dict[str, Any]:
    """Return the values in force, and which of them are the model's own."""
    rows = engine.rows(
        "select model, policy, value from control.policies where model in (%s, %s)",
        [ALL_MODELS, model],
    )
    defaults = {row["policy"]: row["value"] for row in rows if row["model"] == ALL_MODELS}
    own = {row["policy"]: row["value"] for row in rows if row["model"] == model}
    return {"model": model, "policies": dict(sorted({**defaults, **own}.items())), "own": own}


def write(engine: Engine, model: str, values: object) -> dict[str, Any]:
    """Set policies of `model` (None: back to the default) and return what `read` returns.

    Raises:
        ContractError: an unknown policy, or a value that the database refuses; nothing is set.
    """
    if not model or len(model) > MAX_ID or not model.isprintable():
        raise ContractError("model", f"a printable name of 1 to {MAX_ID} characters", model)
    if not isinstance(values, Mapping):
        raise ContractError("", "an object of policy to value", values)
    with engine.connect(autocommit=False, row_factory=dict_row) as connection:
        known = sorted(
            row["policy"]
            for row in connection.execute(
                "select policy from control.policies where model = %s", [ALL_MODELS]
            )
        )
        for policy, value in values.items():
            if policy not in known:
                raise ContractError(policy, f"a known policy (one of {', '.join(known)})", value)
            _set(connection, model, policy, value)
    return read(engine, model)


def _set(connection: psycopg.Connection[Any], model: str, policy: str, value: object) -> None:
    if value is None:
        if model == ALL_MODELS:
            raise ContractError(policy, "a value, as it is the default of all models", value)
        connection.execute(
            "delete from control.policies where model = %s and policy = %s", [model, policy]
        )
        return
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ContractError(policy, "a string or a number", value)
    try:
        connection.execute(
            """
            insert into control.policies (model, policy, value) values (%s, %s, %s)
            on conflict (model, policy) do update
            set value = excluded.value, updated_at = clock_timestamp()
            """,
            [model, policy, str(value)],
        )
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        allowed = f"a value that the views can read ({error.diag.message_primary})"
        raise ContractError(policy, allowed, value) from None

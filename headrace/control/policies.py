"""Policies: the thresholds of each model, in ``control.policies``. Model ``*`` has the defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import psycopg

from headrace.engine import Engine
from headrace.engine.patience import passes
from headrace.errors import ContractError
from headrace.events.labels import label_text
from headrace.events.values import MAX_ID

ALL_MODELS = "*"
# Policies that name a label.
LABELS = ("positive_label", "default_label")
# Names of the built-in windows begin with a digit.
WINDOW = re.compile(r" *([^\s=0-9][^\s=]{0,63}) *= *([1-9][0-9]{0,3}) (hour|day)s? *")
SHARES = re.compile(r" *0?\.[0-9]{1,9} *(, *0?\.[0-9]{1,9} *)*")
KEPT_HOURS = 9_600  # of the panes of hours: 400 days


def read(engine: Engine, model: str) -> dict[str, Any]:
    """Return the values that apply to `model`, and which of them are its own.

    From ``control.policies``.
    """
    rows = engine.rows(
        "select model, policy, value from control.policies where model in (%s, %s)",
        [ALL_MODELS, model],
    )
    defaults = {row["policy"]: row["value"] for row in rows if row["model"] == ALL_MODELS}
    own = {row["policy"]: row["value"] for row in rows if row["model"] == model}
    return {"model": model, "policies": dict(sorted({**defaults, **own}.items())), "own": own}


def write(engine: Engine, model: str, values: object) -> dict[str, Any]:
    """Set policies of `model` (None restores the default) and return the same as `read`.

    Raises:
        ContractError: an unknown policy or a wrong value; nothing is set.
    """
    if not model or not model.isprintable() or len(model.encode()) > MAX_ID:
        allowed = f"a printable name of 1 to {MAX_ID} bytes in UTF-8"
        raise ContractError("model", allowed, model)
    if not isinstance(values, Mapping):
        raise ContractError("", "an object of policy to value", values)
    kinds = {
        row["policy"]: row["kind"]
        for row in engine.rows("select policy, kind from control.policy_kinds")
    }
    known = ", ".join(sorted(kinds))
    now = datetime.now(UTC)
    changed: list[dict[str, Any]] = []
    for policy, value in values.items():
        if policy not in kinds:
            raise ContractError(policy, f"a known policy (one of {known})", value)
        if value is not None:
            text = _text(policy, value)
            check(engine, policy, kinds[policy], text)
            changed.append({"model": model, "policy": policy, "value": text, "updated_at": now})
        elif model == ALL_MODELS:
            raise ContractError(policy, "a value, as it is the default of all models", value)
    with engine.writing() as connection:
        if changed:
            engine.dialect.put(connection, "control.policies", ["model", "policy"], changed)
        for policy in (policy for policy, value in values.items() if value is None):
            connection.execute(
                "delete from control.policies where model = %s and policy = %s", [model, policy]
            )
    return read(engine, model)


def check(engine: Engine, policy: str, kind: str, value: str) -> None:
    """Check that the views can read a value. The engine itself says what is an interval.

    On PostgreSQL a trigger makes the same check on every write.

    Raises:
        ContractError: the value is not of the kind of its policy.
    """
    if kind == "number" and not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", value):
        raise ContractError(policy, "a number", value)
    if policy == "embed_inputs" and float(value) > 0 and not engine.dialect.has_vectors:
        raise ContractError(policy, f"0 on {engine.dialect.name}, which keeps no vectors", value)
    if ".." in kind:
        least, most = kind.split("..")
        is_number = re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", value)
        if not (is_number and float(least) <= float(value) <= float(most)):
            raise ContractError(policy, f"a number from {least} to {most}", value)
    if "|" in kind and value not in kind.split("|"):
        raise ContractError(policy, f"one of {kind.replace('|', ', ')}", value)
    if kind == "windows" and value:
        _check_windows(policy, value)
    if kind == "shares" and value:
        _check_shares(policy, value)
    if kind == "interval" and not _is_interval(engine, value):
        raise ContractError(policy, "an interval such as '1 day', up to 100 years", value)


def _check_windows(policy: str, value: str) -> None:
    names: set[str] = set()
    for item in value.split(","):
        found = WINDOW.fullmatch(item)
        if not found:
            allowed = (
                "windows such as 'season=120 days, quarter=91 days': names without blanks that do "
                "not begin with a digit, and numbers of hours or days"
            )
            raise ContractError(policy, allowed, item.strip())
        name, number, unit = found.groups()
        if int(number) * {"hour": 1, "day": 24}[unit] > KEPT_HOURS:
            raise ContractError(policy, "windows of up to 400 days", item.strip())
        if name in names:
            raise ContractError(policy, "windows each by another name", name)
        names.add(name)


def _check_shares(policy: str, value: str) -> None:
    allowed = "rising shares such as '0.01, 0.1, 0.5', above 0 and below 1"
    if not SHARES.fullmatch(value):
        raise ContractError(policy, allowed, value)
    shares = [0.0, *map(float, value.split(","))]
    if any(later <= earlier for earlier, later in pairwise(shares)):
        raise ContractError(policy, allowed, value)


def _is_interval(engine: Engine, value: str) -> bool:
    try:
        (row,) = engine.rows(
            "select %s::interval between interval '0 seconds' and interval '100 years' as fits",
            [value],
        )
    except psycopg.Error as error:
        if isinstance(error, psycopg.OperationalError) or passes(error):
            raise
        return False
    return bool(row["fits"])


def _text(policy: str, value: object) -> str:
    if policy in LABELS and isinstance(value, str | int | float):
        text = label_text(value)
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ContractError(policy, "a string or a number", value)
    else:
        text = str(value)
    try:
        storable = b"\0" not in text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        storable = False
    if not storable:
        raise ContractError(policy, "a text without NUL, in UTF-8", value)
    return text

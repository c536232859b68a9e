"""What a policy may be: said by Python, and by PostgreSQL's trigger to whoever writes in SQL."""

from __future__ import annotations

import psycopg
import pytest

from headrace.control import policies
from headrace.engine import Engine
from headrace.errors import ContractError

NUMBERS = ("5", "0.5", "-1", "1e3", "many", "", " 5", "5\n", "٣", "NaN", "1" * 15, "1" * 16, "1.")
INTERVALS = (
    "1 day", "0 seconds", "100 years", "101 years", "-1 day", "soon", "", "90", "01:30:00",
    "2 days 03:00:00", "1 month", "infinity", "1 fortnight",
)  # fmt: skip
METRICS = ("auc", "log_loss", "AUC", "gini", "", "auc|f1", "log_loss, auc")
WINDOWS = (
    "season=120 days", "season=120 days, quarter = 91 days", "", " ", "season", "season=120",
    "1 day=2 days", "a=1 day,a=2 days", "a=1 day, a=2 days", "a=400 days", "a=401 days",
    "a=9600 hours", "a=9601 hours", "a=0 days", "a=-1 days", "a=1 month", "=1 day", "a=1 day,",
    "größe=1 day", "a b=1 day", "a=b=1 day", "a=1.5 days", "a=1 day\n",
)  # fmt: skip
SWITCHES = ("on", "off", "On", "true", "1", "", "on|off", " on")


def accepted(engine: Engine, policy: str, value: str) -> bool:
    try:
        policies.write(engine, "m", {policy: value})
    except ContractError as error:
        assert error.field == policy
        return False
    return True


def stored(engine: Engine, policy: str, value: str) -> bool:
    with engine.connect() as connection:
        try:
            connection.execute(
                "insert into control.policies (model, policy, value) values ('sql', %s, %s)",
                [policy, value],
            )
        except psycopg.errors.CheckViolation:
            return False
        connection.execute("delete from control.policies where model = 'sql'")
        return True


@pytest.mark.parametrize(
    ("policy", "values"),
    [
        ("psi_alert", NUMBERS),
        ("cooldown", INTERVALS),
        ("gate_metric", METRICS),
        ("learn", SWITCHES),
        ("custom_windows", WINDOWS),
    ],
)
def test_python_and_the_trigger_agree(
    engine: Engine, either: Engine, policy: str, values: tuple[str, ...]
) -> None:
    said = {value: accepted(either, policy, value) for value in values}
    assert said == {value: stored(engine, policy, value) for value in values}
    assert True in said.values() and False in said.values()


def test_all_or_nothing_is_set(either: Engine) -> None:
    with pytest.raises(ContractError, match="cooldown"):
        policies.write(either, "m", {"psi_alert": 0.5, "cooldown": "soon"})
    assert policies.read(either, "m")["own"] == {}


@pytest.mark.parametrize("value", ["\0", "\ud800"])
def test_what_no_database_can_hold_is_refused(either: Engine, value: str) -> None:
    with pytest.raises(ContractError, match="positive_label"):
        policies.write(either, "m", {"positive_label": value})

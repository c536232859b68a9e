"""No answer depends on the time zone of the session that asks."""

from __future__ import annotations

import re
from typing import Any

import pytest

from headrace.engine import Engine
from headrace.events.log import EventLog
from headrace.settings import project_path
from tests.support import risingwave_views as views
from tests.support.clock_change import around_a_change
from tests.support.policies import set_policies
from tests.support.streams import send

ZONES = ("UTC", "America/New_York")
# What would follow the session's time zone.
FOLLOWS = {
    "an interval of days or more": r"interval '[^']*\d *(d|w|mon|y|c|mil)[^']*'",
    "an interval that somebody set": r"(?<!extract\(epoch from )\([^()]*\)::interval",
    "the start of a day": r"date_trunc\((?![^()]*'UTC'\))",
    "a time as text": r"to_char\((?![^']*at time zone 'UTC')",
    "a date": r"::date\b|::time\b|current_date|localtime",
}


def test_no_view_follows_the_session(template: Any, risingwave_views: list[views.View]) -> None:
    compiled = (template.folder.parent / "dbt" / "target" / "compiled").rglob("models/*/*.sql")
    queries = project_path("sql").rglob("*.sql")
    texts = {str(path): path.read_text() for path in [*compiled, *queries]}
    texts |= {f"risingwave {view.name}": view.select for view in risingwave_views}
    assert len(texts) > 2 * len(risingwave_views)
    found = [
        f"{name}: {what}: {match[0]}"
        for name, text in texts.items()
        for what, pattern in FOLLOWS.items()
        for match in re.finditer(pattern, re.sub("--.*", "", text), re.IGNORECASE)
        if "003_policies" not in name  # compares what is set with the limits of a policy
    ]
    assert found == []


@pytest.mark.parametrize(
    ("what", "sql"),
    [
        ("an interval of days or more", "clock - interval '1 day'"),
        ("an interval of days or more", "clock - interval '2 mons'"),
        ("an interval that somebody set", "(policies ->> 'x')::interval as x"),
        ("the start of a day", "date_trunc('day', clock)"),
        ("a time as text", "to_char(clock + cooldown, 'YYYY')"),
    ],
)
def test_what_follows_it_is_found(what: str, sql: str) -> None:
    assert re.search(FOLLOWS[what], sql)


def test_every_mart_reads_the_same_in_another_time_zone(engine: Engine) -> None:
    with EventLog(engine) as log:
        send(log, list(around_a_change()))
    set_policies(
        engine, label_window="1 day", metric_window="1 month", drift_window="3 days",
        label_patience="2 days", forecast_horizon="1 year", rollback_window="1 day",
        cooldown="1 month", volume_gap="2 days", session_gap="1 day", retrain_every="1 week",
        min_sample="2", min_new_labels="1", positive_label="yes",
    )  # fmt: skip
    set_policies(engine, "m7", default_label="no")
    read = {}
    with engine.connect() as connection:
        for zone in ZONES:
            connection.execute(f"set timezone = '{zone}'")
            read[zone] = {mart: views.rows(connection, mart) for mart in views.marts()}
    found = [
        difference
        for mart, key in views.marts().items()
        for difference in views.differences(mart, key, read[ZONES[0]][mart], read[ZONES[1]][mart])
    ]
    assert found == []
    answered = {mart for mart, rows in read["UTC"].items() if rows}
    assert len(answered) > 40, sorted(read["UTC"].keys() - answered)

"""Every mart has the same rows on both engines: the views that dbt compiles for RisingWave, run on
PostgreSQL over the same events.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.contract import TOPICS
from headrace.events.log import EventLog
from tests.risingwave.crowded import crowded
from tests.support import risingwave_sql_on_postgres as on_postgres
from tests.support import risingwave_views as views
from tests.support.clock_change import around_a_change
from tests.support.policies import set_policies
from tests.support.rewards import Story, stories
from tests.support.risingwave_sql_database import SqlStandIn
from tests.support.stored import empty
from tests.support.streams import MODELS, START, Stream, send

COPIED = (
    "events.inference", "events.feedback", "events.model_events", "events.rejected",
    "events.conflicts", "control.losses", "control.alert_log", "control.trigger_history",
    "control.policy_kinds", "control.policies", "control.label_policies", "control.datasets",
    "control.training_progress", "control.load_failures", "control.reviews",
    "events.input_vectors", "events.input_vector_hours",
)  # fmt: skip
# The policies that tests of single views set, all at once: views depend on each other.
POLICIES = st.sampled_from(
    [
        {},
        {"min_new_labels": "3", "min_sample": "5", "cooldown": "1 minute"},
        {"label_window": "2 hours", "default_label": "no", "min_sample": "2"},
        {
            "metric_window": "30 days",
            "drift_window": "1 day",
            "min_sample": "1",
            "psi_alert": "0.01",
        },
        {"retrain_every": "1 hour", "volume_gap": "1 minute", "session_gap": "10 minutes"},
    ]
)


@pytest.fixture(scope="module")
def with_views(sql_standin: SqlStandIn, risingwave_views: list[views.View]) -> list[views.View]:
    connection = sql_standin.connection
    for schema, name in (
        ("events", "conflicts"), ("control", "losses"),
        ("events", "input_vectors"), ("events", "input_vector_hours"),
    ):  # fmt: skip
        connection.execute(f"create table {schema}.kept as table {schema}.{name}".encode())
        connection.execute(f"drop view {schema}.{name}".encode())
        connection.execute(f"alter table {schema}.kept rename to {name}".encode())
    connection.execute("drop view control.consumed")
    connection.execute(
        "create table control.consumed (topic text, partition integer, next_offset bigint, "
        "end_offset bigint, consumed_at timestamptz, topic_id text default '')"
    )
    views.create(connection, risingwave_views)
    return risingwave_views


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories(), policies=POLICIES, claimed=st.integers(0, 3))
def test_every_mart_has_the_same_rows(
    engine: Engine,
    log: EventLog,
    sql_standin: SqlStandIn,
    with_views: list[views.View],
    story: Story,
    policies: dict[str, str],
    claimed: int,
) -> None:
    tell(engine, log, story, policies, claimed)
    found = compared(engine, sql_standin, with_views)
    assert not found, "\n".join(found[:20])


def test_a_crowd_fills_every_mart(
    engine: Engine,
    log: EventLog,
    sql_standin: SqlStandIn,
    with_views: list[views.View],
) -> None:
    story = crowded(ended=True)
    policies = {"min_new_labels": "3", "min_sample": "5", "custom_windows": "season=120 days"}
    tell(engine, log, story, policies, 2)
    set_policies(engine, MODELS[1], default_label="no")
    found = compared(engine, sql_standin, with_views)
    assert found == []
    empty_ones = [mart for mart in views.marts() if not views.rows(sql_standin.connection, mart)]
    assert empty_ones == []


def test_rows_are_the_same_in_another_time_zone(
    engine: Engine,
    log: EventLog,
    sql_standin: SqlStandIn,
    with_views: list[views.View],
) -> None:
    policies = {"label_window": "1 day", "metric_window": "1 month", "drift_window": "3 days"}
    tell(engine, log, Story(Stream([list(around_a_change())]), []), policies, 0)
    sql_standin.connection.execute("set timezone = 'America/New_York'")
    try:
        found = compared(engine, sql_standin, with_views)
    finally:
        sql_standin.connection.execute("set timezone = 'UTC'")
    assert not found, "\n".join(found[:20])


def test_what_is_ignored_on_a_real_one_is_what_its_clock_says(
    engine: Engine,
    log: EventLog,
    sql_standin: SqlStandIn,
    with_views: list[views.View],
) -> None:
    """The same events, ingested at other times: only the columns of TAKEN_IN may differ."""
    tell(engine, log, crowded(), {"min_new_labels": "3", "min_sample": "5"}, 0)
    with engine.connect() as connection:
        take_over(connection, sql_standin.connection)
        for topic in TOPICS:
            sql_standin.connection.execute(
                f"update events.{topic} set ingested_at = ingested_at + "
                "(hashtext(ingested_at::text) % 1000 + 5000) * interval '1 second'".encode()
            )
        views.refresh(sql_standin.connection, with_views)
        found = [
            difference
            for mart, key in views.marts().items()
            if mart not in views.OF_THE_ENGINE
            for difference in views.differences(
                mart,
                key,
                views.rows(sql_standin.connection, mart),
                views.rows(connection, mart),
                views.TAKEN_IN,
            )
        ]
    assert not found, "\n".join(found[:20])


def test_no_sum_of_a_pane_passes_what_a_number_of_risingwave_holds(
    sql_standin: SqlStandIn, with_views: list[views.View]
) -> None:
    """Such a sum would end its materialized view, and the database with it."""
    there = sql_standin.connection
    for table in ("events.inference", "events.feedback", "control.label_policies"):
        there.execute(f"truncate {table}".encode())
    there.execute("insert into control.label_policies values ('*', 'dwell', 'sum', 1, 1)")
    there.execute(
        "insert into events.inference (request_id, event_time, ingested_at, model, model_version,"
        " variant, item_id, item_key, prediction, propensity) "
        "select p || '/' || v, %(at)s, %(at)s, 'm', 'v', 'champion', 'i', '=i', 5, p from unnest("
        "'{1,1e-9,1e-100}'::float8[]) as p, unnest('{0,7,-4e8,6e28,1e200}'::float8[]) as v",
        {"at": START},
    )
    there.execute(
        "insert into events.feedback"
        " (feedback_id, request_id, event_time, ingested_at, kind, value) "
        "select request_id || n, request_id, event_time, event_time, 'dwell', "
        "split_part(request_id, '/', 2)::float8 from events.inference, generate_series(1, 2) as n"
    )
    views.refresh(there, [view for view in with_views if view.schema == "panes"])
    for pane in ("label_panes", "arm_panes", "item_label_panes"):
        for row in there.execute(f"select to_jsonb(p) - 'counts' from panes.{pane} as p".encode()):
            sums = {name: x for name, x in row[0].items() if isinstance(x, (int, float))}
            assert all(abs(x) < 1e20 for x in sums.values()), (pane, sums)
    assert there.execute("select sum(reward) from panes.arm_panes").fetchone() == (
        3 * 2 * (7 - 400_000_000),
    )


def compared(engine: Engine, sql_standin: SqlStandIn, made: list[views.View]) -> list[str]:
    """Return the differences of the views over the events of `engine`."""
    with engine.connect() as connection:
        take_over(connection, sql_standin.connection)
        views.refresh(sql_standin.connection, made)
        return [
            difference
            for mart, key in views.marts().items()
            if mart not in views.ITS_OWN
            for difference in views.differences(
                mart, key, views.rows(sql_standin.connection, mart), views.rows(connection, mart)
            )
        ]


def tell(
    engine: Engine,
    log: EventLog,
    story: Story,
    policies: dict[str, str],
    claimed: int,
) -> None:
    """Store a story, with policies and with claims of its triggers."""
    empty(engine)
    with engine.connect() as connection:
        connection.execute("delete from control.policies where model != '*'")
        connection.execute(
            "update control.policies set value = default_value from control.policy_kinds as kinds "
            "where kinds.policy = policies.policy"
        )
        connection.execute(
            "truncate control.claims, control.consumed, control.losses, events.rejected, "
            "events.conflicts, control.alert_log, control.trigger_history, "
            "control.training_progress, control.load_failures, control.reviews"
        )
    set_policies(engine, positive_label="yes", **policies)
    set_policies(engine, MODELS[0], max_metric_drop="0.01", learn="on")
    send(log, [("model_events", life) for life in story.lives])
    for batch in story.stream.batches:
        send(log, batch)
    with engine.connect() as connection:
        for number in range(claimed):
            at = START + timedelta(hours=number)
            connection.execute(
                "insert into control.claims (trigger_id, model, worker, run_id, attempt, "
                "claimed_at, heartbeat_at, known_at, event_clock, finished_at) "
                "values (%s, %s, 'w', %s, %s, %s, %s, now(), %s, %s)",
                [
                    f"{MODELS[0]}:{number + 1}", MODELS[0], f"run{number}", 1 + number % 2, at, at,
                    at, None if number == 2 else at + timedelta(minutes=5),
                ],
            )  # fmt: skip
        connection.execute(
            "insert into events.rejected (topic, field, reason, payload) "
            "values ('inference', 'score', 'because', '{}')"
        )
        connection.execute(
            "insert into events.conflicts (topic, event_id, content_md5, differing, payload) "
            "select 'inference', request_id, 'x', 'score', '{}' from events.inference limit 1"
        )
        # Two bases: one has vectors at all times, the other one only at last.
        connection.execute(
            "insert into events.input_vectors (model, request_id, base, event_time, embedding) "
            "select distinct on (model, request_id, base) model, request_id, base, event_time, "
            "array[length(request_id), 1, extract(minute from event_time)]::real[]::halfvec "
            "from events.inference cross join unnest(array['a', 'b']) as base "
            "where variant != 'shadow' and (base = 'a' or request_id ~ '[0-4]$') "
            "order by model, request_id, base, event_time"
        )
        connection.execute(
            "insert into events.input_vector_hours "
            "select model, base, date_trunc('hour', event_time, 'UTC'), count(*), "
            "array[sum(x), sum(y), count(*)], array[sum(x * x), sum(y * y), count(*)] "
            "from (select *, (embedding::real[])[1]::double precision as x, "
            "(embedding::real[])[3]::double precision as y from events.input_vectors) as vectors "
            "group by 1, 2, 3"
        )
        connection.execute(
            "insert into control.consumed values ('p.inference', 0, 5, 7, now()), "
            "('p.feedback', 1, 5, null, now())"
        )
        connection.execute(
            "insert into control.losses values ('p.feedback', 1, 'x', 2, 5, 'dropped')"
        )
        connection.execute(
            "insert into control.alert_log values (%(model)s, 'errors', 'v1', %(at)s, 'critical', "
            "%(at)s, null), (%(model)s, 'latency', '', %(at)s, 'warning', %(at)s, %(at)s)",
            {"model": MODELS[0], "at": START},
        )
        connection.execute(
            "insert into control.load_failures values "
            "('g:1', %(model)s, 'v1', 'champion', 'there is no folder', %(at)s), "
            "('g:2', 'unheard', 'v1', 'shadow', 'there is no folder', %(at)s)",
            {"model": MODELS[0], "at": START},
        )
        connection.execute(
            "insert into control.reviews select md5(request_id), 1, step, md5(request_id), model, "
            "request_id, item_id, 'ann', true, event_time, event_time from events.inference "
            "cross join unnest(array['claimed', 'skipped']) as step "
            "where request_id ~ '[05]$' or step = 'claimed'"
        )
        connection.execute(
            "insert into control.training_progress values ('run0', 1, %(model)s, %(id)s, 'fit', "
            "3, 9, 0.5, 100, 2.5, %(at)s, %(at)s)",
            {"id": f"{MODELS[0]}:1", "model": MODELS[0], "at": START},
        )
        connection.execute(
            "insert into control.trigger_history values (%(id)s, '', %(model)s, 'due', null, "
            "%(at)s, %(at)s), (%(id)s, 'cooling down', %(model)s, 'wanted', 'cooling down', "
            "%(at)s, %(at)s)",
            {"id": f"{MODELS[0]}:1", "model": MODELS[0], "at": START},
        )


def take_over(here: psycopg.Connection[Any], there: psycopg.Connection[Any]) -> None:
    """Copy the tables below the views, as they are."""
    for table in COPIED:
        copy(here, there, table, table)
    copy(here, there, "control.consumed", "control.consumed")
    copy(here, there, "control.claims", "control.attempts")
    copy(here, there, "control.claims", "control.heartbeats")


def copy(
    here: psycopg.Connection[Any], there: psycopg.Connection[Any], table: str, other: str
) -> None:
    names = ", ".join(on_postgres.columns(there, other))
    read_as = names.replace("item_key", "coalesce('=' || item_id, '')")
    read_as = read_as.replace("embedding", "embedding::real[]")
    there.execute(f"truncate {other}".encode())
    with (
        here.cursor().copy(f"copy (select {read_as} from {table}) to stdout".encode()) as read,
        there.cursor().copy(f"copy {other} ({names}) from stdin".encode()) as write,
    ):
        for data in read:
            write.write(data)


def test_every_mart_is_compared() -> None:
    assert set(views.marts()) >= {"retrain_trigger", "model_performance", "ingest_lag"}
    assert all(views.marts().values())


def test_a_difference_is_found() -> None:
    row = {"model": "m", "value": 1.0, "names": ["a"], "at": START, "crosses_at": START}
    same = {**row, "value": 1.0 + 1e-12, "crosses_at": START + timedelta(microseconds=3)}
    assert views.differences("x", ["model"], [row], [same]) == []
    for changed in (
        {**row, "value": 1.1}, {**row, "value": None}, {**row, "names": ["b"]},
        {**row, "at": START + timedelta(seconds=1)}, {**row, "model": "n"}, {**row, "more": 1},
        {**row, "crosses_at": None}, {**row, "crosses_at": START + timedelta(seconds=2)},
    ):  # fmt: skip
        assert views.differences("x", ["model"], [row], [changed])
    assert views.differences("x", ["model"], [row], [])

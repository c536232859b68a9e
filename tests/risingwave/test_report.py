"""The report of a run on a RisingWave, on a PostgreSQL with that part of its catalogue."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from kafka import KafkaConsumer, TopicPartition

from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.events.contract import TOPICS
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.topics import topic_name
from headrace.events.rows import REJECTED
from headrace.operate.doctor.risingwave import check_actors
from tests.support import risingwave_real as real
from tests.support import risingwave_report as report
from tests.support import risingwave_views as views
from tests.support.brokers import make_topics
from tests.support.contract_messages import changes
from tests.support.risingwave_sql_on_postgres import PREFIX
from tests.support.standin import violations

# Two jobs on two cores: a materialized view of two fragments, one of which runs once, and a sink.
CATALOGUE = """
create schema rw_catalog;
create table rw_catalog.rw_schemas (id int, name text);
insert into rw_catalog.rw_schemas values (1, 'panes'), (2, 'events'), (3, 'theirs');
create table rw_catalog.rw_relations (id int, name text, relation_type text, schema_id int);
insert into rw_catalog.rw_relations values
    (10, 'labels', 'materialized view', 1), (11, 'refused', 'sink', 2), (12, 'read', 'view', 2),
    (13, 'other', 'materialized view', 3), (14, 'inference', 'table', 2);
create table rw_catalog.rw_materialized_views (id int);
insert into rw_catalog.rw_materialized_views values (10), (13);
create table rw_catalog.rw_tables (id int);
insert into rw_catalog.rw_tables values (14);
create table rw_catalog.rw_internal_tables (id int, job_id int);
insert into rw_catalog.rw_internal_tables values (20, 10), (21, 10), (22, 13);
create table rw_catalog.rw_table_stats (id int, total_key_size bigint, total_value_size bigint);
insert into rw_catalog.rw_table_stats values (10, 1000000, 500000), (20, 1000000, 0), (22, 5, 5);
create table rw_catalog.rw_fragments (fragment_id int, table_id int);
insert into rw_catalog.rw_fragments values (1, 10), (2, 10), (3, 11), (4, 13);
create table rw_catalog.rw_actors (actor_id int, fragment_id int);
insert into rw_catalog.rw_actors values (1, 1), (2, 1), (3, 2), (4, 3), (5, 3), (6, 4);
create table rw_catalog.rw_worker_actor_count (worker_id int, parallelism int, actor_count bigint);
insert into rw_catalog.rw_worker_actor_count values (1, 2, 206);
"""


@pytest.fixture
def catalogued(standin: Engine, engine: Engine) -> Engine:
    with engine.connect() as connection:
        connection.execute(CATALOGUE)
    return standin


def test_what_it_costs(catalogued: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    with catalogued.connect() as connection:
        found = report.costs(connection)
    real.show(catalogued)
    said = capsys.readouterr().out.lstrip()
    assert found == [
        report.Cost("panes.labels", "materialized view", 2, 3, 3, 2_500_000),
        report.Cost("events.refused", "sink", 1, 2, 0, 0),
        report.Cost("events.inference", "table", 0, 0, 1, 0),
        report.Cost("events.read", "view", 0, 0, 0, 0),
    ]
    assert [line.split() for line in said.splitlines()[:4]] == [
        ["object", "kind", "fragments", "actors", "tables", "state"],
        ["panes.labels", "materialized", "view", "2", "3", "3", "2.5", "MB"],
        ["events.refused", "sink", "1", "2", "0", "0.0", "MB"],
        ["together", "3", "5", "4", "2.5", "MB"],
    ]
    assert "node 1: 206 actors of all databases on 2 cores, 103 a core (it warns above 100" in said


def test_the_doctor_counts_the_same(catalogued: Engine) -> None:
    ((level, says, *_),) = [(each.level, each.says) for each in check_actors(catalogued)]
    assert level == "warning" and says.startswith("node 1 runs 103 actors a core")


def test_what_is_asked_of_the_catalogue_can_be_asked() -> None:
    assert [violations(query) for query in (report.COSTS, report.NODES, real.MADE)] == [[], [], []]


def test_marts_side_by_side(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mart cannot be read, one has a row too many, and the others are equal."""
    with engine.connect() as here, engine.connect() as there:
        assert not [each for each in report.compare(there, here) if each.differences]

        def rows(connection: Connection, mart: str) -> list[dict[str, Any]]:
            if connection is there and mart == "alerts":
                raise psycopg.InternalError("too many inflight\ntime travel queries")
            if connection is there and mart == "feature_psi":
                return [dict.fromkeys(views.marts()[mart], "x")]
            return kept(connection, mart)

        kept = views.rows
        monkeypatch.setattr(views, "rows", rows)
        found = report.compare(there, here)
    said = report.differences(found)
    assert f"2 of {len(found)} marts differ" in said
    assert "alerts: too many inflight time travel queries" in said
    assert "feature_psi ('x'" in said and "only here" in said
    assert len(found) == len(views.marts()) - len(views.OF_THE_ENGINE)


def test_what_was_made_is_dropped_the_newest_first(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute("create schema rw_catalog")
        connection.execute("drop schema headrace, panes, events, control cascade")
        connection.execute("create schema events; create schema panes")
        connection.execute(
            "create table events.a (a int); create materialized view panes.b as table events.a"
        )
        connection.execute(
            "create view rw_catalog.rw_schemas as select oid as id, nspname as name "
            "from pg_namespace; create view rw_catalog.rw_relations as "
            "select oid as id, relname as name, relnamespace as schema_id, case relkind "
            "when 'r' then 'table' else 'materialized view' end as relation_type "
            "from pg_class where relkind in ('r', 'm')"
        )
        real.empty(connection)
        left = connection.execute(
            "select nspname from pg_namespace where nspname in ('events', 'panes')"
        )
        assert left.fetchall() == []


def test_what_is_published_is_where_it_says(kafka_engine: Engine) -> None:
    make_topics(kafka_engine.settings)
    moment = 1_777_636_800_250
    for _ in range(2):
        sent = real.publish(kafka_engine.settings, changes(), moment)
    assert len(sent) > 2_000 and any(message.value is None for message in sent)
    consumer = KafkaConsumer(**client_options(kafka_engine.settings), consumer_timeout_ms=2_000)
    places = [
        TopicPartition(topic_name(kafka_engine.settings, topic), 0) for topic in (*TOPICS, REJECTED)
    ]
    consumer.assign(places)
    for place in places:
        first = min(m.offset for m in sent if place.topic.endswith(m.topic.removeprefix(PREFIX)))
        consumer.seek(place, first)
    found = {
        (record.topic.removeprefix(kafka_engine.settings.kafka_prefix), record.offset, record.value)
        for record in consumer
    }
    consumer.close()
    assert found == {(m.topic.removeprefix(PREFIX), m.offset, m.value) for m in sent}

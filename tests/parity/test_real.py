"""The same comparisons on a RisingWave, where there is one.

HEADRACE_TEST_RISINGWAVE is the connection string of one whose role may make databases, and
HEADRACE_TEST_KAFKA the address of brokers that both it and this machine reach.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from kafka import KafkaProducer
from psycopg.conninfo import make_conninfo

from headrace.embedded import EmbeddedPostgres
from headrace.engine import Engine, open_engine
from headrace.events import TOPICS
from headrace.kafka.brokers import access, topic_name
from headrace.log import EventLog
from headrace.rows import REJECTED
from headrace.settings import Settings
from tests.parity import views
from tests.parity.standin import PREFIX, Message
from tests.parity.test_contract import SENT, changes, disagreements
from tests.parity.test_views import crowded
from tests.sql.settings import set_policies
from tests.sql.streams import send
from tests.sql.test_views import empty, log  # noqa: F401

DSN = os.environ.get("HEADRACE_TEST_RISINGWAVE", "")
KAFKA = os.environ.get("HEADRACE_TEST_KAFKA", "")
pytestmark = pytest.mark.skipif(
    not (DSN and KAFKA), reason="HEADRACE_TEST_RISINGWAVE and HEADRACE_TEST_KAFKA name no servers"
)
WAIT_S = 180
THRESHOLDS = {"positive_label": "yes", "min_new_labels": "3", "min_sample": "5"}


def opened(dsn: str, prefix: str, server: EmbeddedPostgres, home: Any) -> Settings:
    return Settings(
        home=home, engine="risingwave", dsn=dsn, registry_dsn=server.dsn, kafka=KAFKA,
        # Messages that were sent months ago are to stay.
        kafka_prefix=prefix, kafka_partitions=1, kafka_retention_h=100_000,
    )  # fmt: skip


@pytest.fixture
def real(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A RisingWave with a database and topics of its own, brought up to the project's SQL."""
    name = f"p{uuid4().hex[:8]}"
    home = tmp_path_factory.mktemp("real")
    admin = Engine(DSN, opened(DSN, f"{name}.", server, home))
    with admin.connect() as connection:
        connection.execute(f"create database {name}".encode())
    settings = opened(make_conninfo(DSN, dbname=name), f"{name}.", server, home)
    with open_engine(settings, migrate=False) as engine:
        engine.migrate(say=print)
        yield engine
    # It may want the database to be empty; a test cluster is thrown away anyway.
    with admin.connect() as connection, contextlib.suppress(psycopg.Error):
        connection.execute(f"drop database {name}".encode())


def flush(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute("flush")


def until(engine: Engine, holds: Callable[[], bool]) -> None:
    """Wait for what Kafka still holds to come in."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"nothing more came in for {WAIT_S} s"
        time.sleep(1)
    flush(engine)


def count(engine: Engine, table: str) -> int:
    return int(engine.rows(f"select count(*) as n from {table}")[0]["n"])


def test_every_message_becomes_what_the_contract_says(real: Engine) -> None:
    moment = round(SENT.timestamp() * 1000)
    sent = list(changes())
    producer = KafkaProducer(**access(real.settings), acks="all", max_request_size=2_000_000)
    offsets = dict.fromkeys((*TOPICS, REJECTED), 0)
    messages = []
    for topic, value in sent:
        if value is None:
            continue  # a tombstone is no message for a source
        name = topic_name(real.settings, topic)
        producer.send(name, value=value, partition=0, timestamp_ms=moment)
        messages.append(Message(PREFIX + topic, 0, offsets[topic], moment, value))
        offsets[topic] += 1
    producer.flush()
    producer.close()

    def all_read() -> bool:
        read = {
            row["topic"]: row["next_offset"] for row in real.rows("select * from control.consumed")
        }
        return all(read.get(topic_name(real.settings, topic)) == n for topic, n in offsets.items())

    until(real, all_read)
    stored = {topic: real.rows(f"select * from events.{topic}") for topic in offsets}
    for row in stored[REJECTED]:
        row["origin"] = PREFIX + row["origin"].removeprefix(real.settings.kafka_prefix)
    for topic in TOPICS:
        for row in stored[topic]:
            for name, text in row.items():
                if isinstance(text, str) and text.startswith(real.settings.kafka_prefix):
                    row[name] = PREFIX + text.removeprefix(real.settings.kafka_prefix)
    assert disagreements(messages, stored) == []


def test_every_mart_has_the_rows_of_postgresql(
    engine: Engine,
    log: EventLog,  # noqa: F811
    real: Engine,
) -> None:
    story = crowded()
    empty(engine)
    set_policies(engine, **THRESHOLDS)
    with real.connect() as connection:
        for policy, value in THRESHOLDS.items():
            connection.execute(
                "insert into control.policies (model, policy, value, updated_at) "
                "values ('*', %s, %s, now())",
                [policy, value],
            )
    with EventLog(real) as to_kafka:
        for where in (log, to_kafka):
            send(where, [("model_events", life) for life in story.lives])
            for batch in story.stream.batches:
                send(where, batch)
    tables = [f"events.{topic}" for topic in TOPICS]
    until(real, lambda: all(count(real, table) == count(engine, table) for table in tables))
    with engine.connect() as here, real.connect() as there:
        found = [
            difference
            for mart, key in views.marts().items()
            if mart not in views.OF_THE_ENGINE
            for difference in views.differences(
                mart, key, views.rows(there, mart), views.rows(here, mart), views.TAKEN_IN
            )
        ]
    assert not found, "\n".join(found[:50])


def test_a_second_deployment_changes_nothing_and_a_full_one_makes_all_again(real: Engine) -> None:
    relations = (
        "select made.id from rw_catalog.rw_relations as made "
        "inner join rw_catalog.rw_schemas as home on made.schema_id = home.id "
        "where home.name in ('headrace', 'panes')"
    )
    before = {row["id"] for row in real.rows(relations)}
    real.migrate()
    assert {row["id"] for row in real.rows(relations)} == before
    real.migrate(force=True)
    after = {row["id"] for row in real.rows(relations)}
    assert len(after) == len(before)
    assert not after & before

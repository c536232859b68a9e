"""A real RisingWave: tests get databases of their own, which are dropped afterwards.

HEADRACE_TEST_RISINGWAVE is the connection string of one whose role may make databases, and
HEADRACE_TEST_KAFKA the address of brokers that both it and this machine reach. One run takes both:
`make test-risingwave RISINGWAVE=... KAFKA=...`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from headrace.deploy import migrate
from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from headrace.errors import EngineError
from headrace.events.kafka.brokers import access, topic_name
from headrace.settings import Settings
from tests.support.risingwave_report import SCHEMAS, costs, expenses, nodes
from tests.support.risingwave_sql_on_postgres import PREFIX, Message

DSN = os.environ.get("HEADRACE_TEST_RISINGWAVE", "")
KAFKA = os.environ.get("HEADRACE_TEST_KAFKA", "")
needs_servers = pytest.mark.skipif(
    not (DSN and KAFKA), reason="HEADRACE_TEST_RISINGWAVE and HEADRACE_TEST_KAFKA name no servers"
)
MADE = """
select schemas.name as home, relations.name, relations.relation_type as kind
from rw_catalog.rw_relations as relations
inner join rw_catalog.rw_schemas as schemas on relations.schema_id = schemas.id
where schemas.name in ('control', 'events', 'headrace', 'panes')
order by relations.id desc
"""


@contextlib.contextmanager
def database(server: EmbeddedPostgres, home: Path, **changed: Any) -> Iterator[Engine]:
    """An engine with all of Headrace in a database and topics of its own; both are dropped.

    What ran in it would count against the cluster's limit of actors for the next one.
    """
    name = f"t{uuid4().hex[:8]}"
    settings = Settings(
        home=home, engine="risingwave", dsn=make_conninfo(DSN, dbname=name),
        registry_dsn=server.dsn, kafka=KAFKA, kafka_prefix=f"{name}.", **changed,
    )  # fmt: skip
    engine, admin = Engine(settings.dsn, settings), Engine(DSN, settings)
    with admin.connect() as connection:
        connection.execute(SQL("create database {}").format(Identifier(name)))
    try:
        try:
            migrate(engine, say=print)
        except EngineError:
            show(engine)  # how far it came, and whether it met a limit
            raise
        yield engine
    finally:
        with engine.connect() as connection:
            empty(connection)
        with admin.connect() as connection:
            connection.execute(SQL("drop database {}").format(Identifier(name)))
        with contextlib.suppress(KafkaError):
            _drop_topics(settings)


def show(engine: Engine) -> None:
    """Print the cost of every object."""
    with engine.connect() as connection:
        print("", expenses(costs(connection), nodes(connection)), sep="\n")


def empty(connection: psycopg.Connection[Any]) -> None:
    """Drop what Headrace created in a database, newest first: a view is newer than its sources."""
    for schema, name, kind in connection.execute(MADE).fetchall():
        what = SQL(kind)  # of its own catalogue: table, source, sink, view, materialized view ...
        connection.execute(SQL("drop {} if exists {}").format(what, Identifier(schema, name)))
    for schema in SCHEMAS:
        connection.execute(SQL("drop schema if exists {}").format(Identifier(schema)))


def publish(
    settings: Settings, sent: Iterable[tuple[str, bytes | None]], moment: int
) -> list[Message]:
    """Send (topic, value) to the first partitions, all with one time in ms; return the messages."""
    producer = KafkaProducer(**access(settings), acks="all", max_request_size=2_000_000)
    receipts = [
        (
            topic,
            value,
            # A message without a value is accepted only with a key.
            producer.send(
                topic_name(settings, topic), value, b"key", partition=0, timestamp_ms=moment
            ),
        )
        for topic, value in sent
    ]
    messages = [
        Message(PREFIX + topic, 0, receipt.get(timeout=60).offset, moment, value)
        for topic, value, receipt in receipts
    ]
    producer.close()
    return messages


def _drop_topics(settings: Settings) -> None:
    client = KafkaAdminClient(**access(settings))
    try:
        ours = [each for each in client.list_topics() if each.startswith(settings.kafka_prefix)]
        client.delete_topics(ours)
    finally:
        client.close()

"""The comparisons of test_contract and test_views on a real RisingWave (see risingwave_real.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from headrace.deploy import migrate
from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from headrace.events.contract import IDS, TOPICS
from headrace.events.kafka.topics import topic_name
from headrace.events.log import EventLog
from headrace.events.rows import REJECTED
from tests.risingwave.crowded import crowded
from tests.risingwave.disagreements import disagreements
from tests.support import risingwave_report as report
from tests.support import risingwave_views as views
from tests.support.contract_messages import SENT, changes
from tests.support.policies import set_policies
from tests.support.risingwave_real import database, needs_servers, publish, show
from tests.support.risingwave_sql_on_postgres import PREFIX
from tests.support.stored import empty
from tests.support.streams import send

pytestmark = needs_servers
WAIT_S = 180
THRESHOLDS = {"positive_label": "yes", "min_new_labels": "3", "min_sample": "5"}


@pytest.fixture(scope="module")
def real(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A RisingWave with a database and topics of its own, brought up to the project's SQL.

    All tests share it, in their order: it takes minutes to make.
    """
    home = tmp_path_factory.mktemp("real")
    # Brokers must keep messages that were sent months ago.
    with database(server, home, kafka_partitions=1, kafka_retention_h=100_000) as engine:
        yield engine


def flush(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute("flush")


def until(engine: Engine, holds: Callable[[], bool]) -> None:
    """Wait until all messages of Kafka are ingested."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"nothing more came in for {WAIT_S} s"
        time.sleep(1)
    flush(engine)


def count(engine: Engine, table: str) -> int:
    return int(engine.rows(f"select count(*) as n from {table}")[0]["n"])


def test_every_mart_has_the_rows_of_postgresql(engine: Engine, log: EventLog, real: Engine) -> None:
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
        found = report.compare(there, here, views.TAKEN_IN)
    print("", report.differences(found), sep="\n")
    show(real)
    assert not [text for each in found for text in each.differences]


def test_every_message_becomes_what_the_contract_says(real: Engine) -> None:
    keys: dict[str, str] = {**IDS, REJECTED: "origin"}  # type: ignore[dict-item]
    before = {
        topic: {row[key] for row in real.rows(f"select {key} from events.{topic}")}
        for topic, key in keys.items()
    }
    messages = publish(real.settings, changes(), round(SENT.timestamp() * 1000))
    ends = {message.topic.removeprefix(PREFIX): message.offset + 1 for message in messages}

    def all_read() -> bool:
        read = {
            row["topic"]: row["next_offset"] for row in real.rows("select * from control.consumed")
        }
        return all(read.get(topic_name(real.settings, topic)) == end for topic, end in ends.items())

    until(real, all_read)
    stored = {
        topic: [
            row
            for row in real.rows(f"select * from events.{topic}")
            if row[key] not in before[topic]
        ]
        for topic, key in keys.items()
    }
    for row in stored[REJECTED]:
        row["origin"] = PREFIX + row["origin"].removeprefix(real.settings.kafka_prefix)
    for topic in TOPICS:
        for row in stored[topic]:
            for name, text in row.items():
                if isinstance(text, str) and text.startswith(real.settings.kafka_prefix):
                    row[name] = PREFIX + text.removeprefix(real.settings.kafka_prefix)
    assert disagreements(messages, stored) == []


def test_a_second_deployment_changes_nothing_and_a_full_one_makes_all_again(real: Engine) -> None:
    relations = (
        "select made.id from rw_catalog.rw_relations as made "
        "inner join rw_catalog.rw_schemas as home on made.schema_id = home.id "
        "where home.name in ('headrace', 'panes')"
    )
    before = {row["id"] for row in real.rows(relations)}
    migrate(real)
    assert {row["id"] for row in real.rows(relations)} == before
    migrate(real, force=True)
    after = {row["id"] for row in real.rows(relations)}
    assert len(after) == len(before)
    assert not after & before

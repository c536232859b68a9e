"""RisingWave restarts, is slow, or waits for its brokers: simulated by the errors it gives then."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from kafka.admin import KafkaAdminClient
from kafka.errors import (
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from headrace import deploy
from headrace.cli import main
from headrace.control import policies
from headrace.engine import Engine, deadline, patience
from headrace.engine.risingwave import RisingWave
from headrace.errors import BrokerError, EngineError
from headrace.events.kafka import topics as topics_module
from tests.support.brokers import await_leaders, make_topics

RECOVERING = (
    "Failed to run the query\n\nCaused by:\n  gRPC request failed: cluster is under recovering"
)


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0.0)


class Refusing:
    """A proxy that returns errors first, then what its target returns."""

    def __init__(self, then: Callable[..., Any], *errors: Exception) -> None:
        self.then, self.errors = then, list(errors)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return self.then(*arguments, **named)


def test_what_a_dead_node_took_along_is_written_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that was written but not flushed is gone after a restart: with flush or without."""
    lost = {"flush": 2, "insert into t values ('b')": 1}

    def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        text = self.mogrify(query, params)
        if lost.get(text, 0):
            lost[text] -= 1
            with engine.connect() as other:
                other.execute("truncate t")
            raise psycopg.InternalError(RECOVERING)
        return kept(self, "select 1" if text == "flush" else query, params, **options)

    kept = psycopg.ClientCursor.execute
    with engine.connect() as connection:
        connection.execute("create table t (a text)")
    monkeypatch.setattr(psycopg.ClientCursor, "execute", execute)
    monkeypatch.setattr("headrace.engine.risingwave.SESSION", ())
    wave = RisingWave()
    with wave.connect(engine.dsn) as connection:
        with wave.writing(connection):
            for name in "abc":
                connection.execute("insert into t values (%s)", [name])
        with engine.connect() as other:
            rows = other.execute("select a from t order by a").fetchall()
        assert rows == [("a",), ("b",), ("c",)]
        assert lost == dict.fromkeys(lost, 0)
        lost["select 2"] = 1
        connection.execute("select 2")
    with engine.connect() as other:
        assert other.execute("select a from t").fetchall() == []


@pytest.mark.parametrize(
    "said",
    [
        "Streaming vnode mapping not found for fragment 7",
        RECOVERING,
        "Service unavailable: The cluster is starting or recovering",
        "Storage error: Barrier read is unavailable for now. Likely the cluster is recovering.",
        "no reader for dml in table `TableId { table_id: 7 }`",
        "failed to check source: NotLeaderForPartition (Broker: Not leader for partition)",
    ],
)
def test_what_passes_is_asked_again(said: str) -> None:
    ask = Refusing(lambda: "answer", psycopg.InternalError(said), psycopg.InternalError(said))
    assert patience.patiently(ask) == "answer"


def test_what_does_not_pass_is_said_at_once() -> None:
    ask = Refusing(lambda: "answer", psycopg.InternalError("division by zero"))
    with pytest.raises(psycopg.InternalError, match="division"):
        patience.patiently(ask)


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)

    def ask() -> None:
        raise psycopg.InternalError(RECOVERING)

    with pytest.raises(psycopg.InternalError, match="under recovering"):
        patience.patiently(ask)


def refuse(monkeypatch: pytest.MonkeyPatch, when: Callable[[str], bool], times: int = 2) -> None:
    """Refuse each statement this many times, as a recovering RisingWave does."""
    refused: dict[str, int] = {}

    def execute(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        text = self.mogrify(query, params)
        if when(text) and refused.setdefault(text, 0) < times:
            refused[text] += 1
            raise psycopg.InternalError(RECOVERING)
        return kept(self, query, params, **options)

    kept = psycopg.ClientCursor.execute
    monkeypatch.setattr(psycopg.ClientCursor, "execute", execute)


def test_every_query_and_session_waits(standin: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, lambda _: True)
    assert standin.rows("select count(*) as n from control.policy_kinds")[0]["n"] > 10
    with standin.writing() as connection:
        standin.dialect.put(
            connection, "control.deployed", ["name"], [{"name": "x", "sha256": "y"}]
        )
    assert standin.rows("select sha256 from control.deployed where name = 'x'") == [{"sha256": "y"}]


def test_a_cluster_that_does_not_come_back_finds_no_fault_with_a_policy(
    standin: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 0.0)
    refuse(monkeypatch, lambda text: "interval" in text, times=1_000_000)
    with pytest.raises(psycopg.InternalError, match="under recovering"):
        policies.write(standin, "m", {"cooldown": "1 day"})


@pytest.mark.usefixtures("commanded")
def test_a_trainer_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(monkeypatch, lambda text: "retrain_trigger" in text)
    assert main(["trainer", "--once"]) == 0
    assert "nothing is due" in capsys.readouterr().out


def test_the_run_of_dbt_waits(standin: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[str, ...]] = []

    def dbt(engine: Engine, *arguments: str, **told: object) -> None:  # noqa: ARG001
        runs.append(arguments)
        if len(runs) < 3:
            raise EngineError(f"dbt run failed: {RECOVERING}")

    monkeypatch.setattr(deploy, "dbt", dbt)
    monkeypatch.setattr(deploy, "_sql_files", lambda *_: [])
    with standin.connect() as connection:
        deploy._apply_dbt(standin, connection, "new", force=True, say=print)
    assert runs == [("run", "--full-refresh")] * 3


def test_a_query_that_takes_too_long_is_cancelled(engine: Engine) -> None:
    with psycopg.connect(engine.dsn, autocommit=True) as connection:
        with (
            pytest.raises(psycopg.errors.QueryCanceled, match=r"longer than 0\.2 s"),
            RisingWave().snapshot(connection, 0.2),
        ):
            connection.execute("select pg_sleep(60)")
        connection.rollback()
        with RisingWave().snapshot(connection, 60):
            assert connection.execute("select 1").fetchone() == (1,)


def test_where_cancelling_does_not_help_the_connection_is_cut_off(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "GRACE_S", 0.1)
    monkeypatch.setattr(psycopg.Connection, "cancel_safe", lambda *_, **__: None)
    with (
        psycopg.connect(engine.dsn, autocommit=True) as connection,
        pytest.raises(psycopg.errors.QueryCanceled),
        RisingWave().snapshot(connection, 0.1),
    ):
        connection.execute("select pg_sleep(60)")


def test_another_error_in_time_stays_itself(engine: Engine) -> None:
    with (
        psycopg.connect(engine.dsn, autocommit=True) as connection,
        pytest.raises(psycopg.errors.DivisionByZero),
        RisingWave().snapshot(connection, 60),
    ):
        connection.execute("select 1 / 0")
    assert not [each for each in threading.enumerate() if each.name == "headrace-deadline"]


def test_leaders_are_waited_for(kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = kafka_engine.settings
    make_topics(settings, "triggers")
    ask = Refusing(
        KafkaAdminClient.list_partition_offsets,
        NotLeaderForPartitionError(),
        UnknownTopicOrPartitionError(),
    )
    described: list[int] = []

    def describe(admin: KafkaAdminClient, topics: Any = None) -> Any:
        found = kept(admin, topics)
        described.append(1)
        if len(described) == 1:
            found[0]["partitions"][0]["leader_id"] = -1
        return found

    kept = KafkaAdminClient.describe_topics
    monkeypatch.setattr(KafkaAdminClient, "describe_topics", describe)
    monkeypatch.setattr(
        KafkaAdminClient, "list_partition_offsets", lambda *args, **named: ask(*args, **named)
    )
    await_leaders(settings, "triggers")
    assert not ask.errors and len(described) >= 3


def test_leaders_that_never_come(kafka_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = kafka_engine.settings
    monkeypatch.setattr(topics_module, "LEADERS_TIMEOUT_MS", 200)
    with pytest.raises(BrokerError, match=r"inference.*missing|inference.*Unknown"):
        await_leaders(settings)
    make_topics(settings)

    def never(*_: Any, **__: Any) -> None:
        raise NotLeaderForPartitionError("of inference:0")

    monkeypatch.setattr(KafkaAdminClient, "list_partition_offsets", never)
    with pytest.raises(BrokerError, match="inference:0") as error:
        await_leaders(settings)
    assert "\n" not in str(error.value)

    def forbidden(*_: Any, **__: Any) -> None:
        raise TopicAuthorizationFailedError("inference")

    monkeypatch.setattr(topics_module, "LEADERS_TIMEOUT_MS", 60_000)
    monkeypatch.setattr(KafkaAdminClient, "list_partition_offsets", forbidden)
    with pytest.raises(BrokerError, match="inference"):
        await_leaders(settings)

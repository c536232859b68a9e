"""`headrace migrate` on RisingWave: the order of statements, and no secret in messages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from headrace import deploy
from headrace.deploy import migrate, prepare
from headrace.engine import Engine
from headrace.engine.risingwave import kafka_properties, statements
from headrace.errors import EngineError
from headrace.events.kafka.brokers import access
from headrace.settings import Settings, project_path

SECRET = "pass'word"
SECURE = Settings(
    kafka="a:9093,b:9093",
    kafka_prefix="t.",
    kafka_security="SASL_SSL",
    kafka_user="me",
    kafka_password=SECRET,
    kafka_ca="/ca.pem",
)


def test_brokers_are_told_with_quotes_doubled() -> None:
    assert kafka_properties(Settings(kafka="a:9092")).split(",\n    ") == [
        "connector = 'kafka'",
        "properties.bootstrap.server = 'a:9092'",
        "properties.security.protocol = 'PLAINTEXT'",
    ]
    lines = kafka_properties(SECURE).split(",\n    ")
    assert "properties.sasl.mechanism = 'SCRAM-SHA-512'" in lines
    assert "properties.sasl.password = 'pass''word'" in lines
    assert "properties.ssl.ca.location = '/ca.pem'" in lines


def test_a_file_is_taken_apart_by_its_statements() -> None:
    text = """-- A comment; with
        -- semicolons;
        create source a with (${kafka}, topic = '${prefix}inference', path = '$$.x;y');

        select '${prefix}'
        as s;
    """
    first, second = statements(text, SECURE)
    assert first.startswith("create source a with (connector = 'kafka',")
    assert first.endswith("topic = 't.inference', path = '$.x;y')")
    assert " ".join(second.split()) == "select 't.' as s"


def test_every_file_can_be_filled_in() -> None:
    files = sorted((project_path("sql") / "risingwave").rglob("*.sql"))
    for file in files:
        found = statements(file.read_text(), SECURE)
        assert found, file.name
        assert all(not each.endswith(";") and "${" not in each for each in found), file.name


def test_an_error_tells_no_secret(standin: Engine, tmp_path: Path) -> None:
    file = tmp_path / "001.sql"
    file.write_text("create source broken with (${kafka});")
    with standin.connect() as connection, pytest.raises(EngineError) as error:
        standin.dialect.apply(connection, file, SECURE)
    text = str(error.value)
    assert text.startswith("001.sql: ") and "\n" not in text
    assert "word" not in text


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose sql/risingwave runs on PostgreSQL."""
    for name in ("policies", "label_policies"):
        rows = (project_path("sql") / f"{name}.csv").read_text()
        (tmp_path / "sql").mkdir(exist_ok=True)
        (tmp_path / "sql" / f"{name}.csv").write_text(rows)
    after = tmp_path / "sql" / "risingwave" / "after"
    after.mkdir(parents=True)
    (after.parent / "001.sql").write_text("create table if not exists control.first (a int);\n")
    (after / "001.sql").write_text("create view public.later as select * from made_by_dbt;\n")
    (tmp_path / "dbt_project" / "models").mkdir(parents=True)
    (tmp_path / "dbt_project" / "dbt_project.yml").touch()
    (tmp_path / "dbt_project" / "models" / "one.sql").write_text("select 1")
    monkeypatch.setattr(deploy, "project_path", lambda name: tmp_path / name)
    return tmp_path


@pytest.fixture
def bare(kafka_engine: Engine, standin: Engine) -> Engine:
    """An engine with the tables of the stand-in and nothing deployed."""
    brokers = kafka_engine.settings
    with standin.connect() as connection:
        connection.execute("delete from control.deployed")
        connection.execute("delete from control.policies")
        connection.execute("delete from control.label_policies")
    settings = replace(standin.settings, kafka=brokers.kafka, kafka_prefix=brokers.kafka_prefix)
    return Engine(standin.dsn, settings)


def test_topics_then_sql_then_policies_then_dbt_then_what_reads_views(
    bare: Engine, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[str, ...]] = []

    def dbt(engine: Engine, *arguments: str, **told: object) -> None:  # noqa: ARG001
        runs.append(arguments)
        policies = (project_path("sql") / "policies.csv").read_text().splitlines()[1:]
        found = engine.rows("select count(*) as n from control.policies")
        assert found == [{"n": len(policies)}]
        assert engine.rows("select count(*) as n from control.label_policies") == [{"n": 8}]
        with engine.connect() as connection:
            connection.execute("drop view if exists public.later")
            connection.execute("drop table if exists made_by_dbt")
            connection.execute("create table made_by_dbt (a int)")

    monkeypatch.setattr(deploy, "dbt", dbt)
    with pytest.raises(EngineError, match="run `headrace migrate` once"):
        prepare(bare)
    migrate(bare)
    admin = KafkaAdminClient(**access(bare.settings))
    prefix = bare.settings.kafka_prefix
    wanted = {"inference", "feedback", "model_events", "rejected", "triggers"}
    assert {f"{prefix}{name}" for name in wanted} <= set(admin.list_topics())
    admin.close()
    assert bare.has("control.first") and bare.has("public.later")
    prepare(bare)
    migrate(bare)
    assert runs == [("run", "--full-refresh")]

    with bare.connect() as connection:
        connection.execute(
            "update control.policies set value = '7' where policy = 'min_new_labels'"
        )
    (project / "dbt_project" / "models" / "one.sql").write_text("select 2")
    migrate(bare, force=True)
    assert runs[1:] == [("run", "--full-refresh")]
    kept = bare.rows("select value from control.policies where policy = 'min_new_labels'")
    assert kept == [{"value": "7"}]

"""Each planted fault is found, named, and comes with a remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.cli import main
from headrace.engine import Engine
from headrace.engine.embedded import EmbeddedPostgres
from headrace.errors import EngineError
from headrace.operate.doctor import checks as doctor
from headrace.operate.doctor import findings
from headrace.operate.doctor import risingwave as cluster
from headrace.operate.doctor.examine import examine
from headrace.settings import Settings
from tests.operate.problems import problems

NOT_UPDATED = "is not updated: a trigger of it is missing or disabled"


def test_a_sound_deployment(engine: Engine) -> None:
    found = list(examine(replace(engine.settings, registry_dsn=engine.dsn)))
    assert [each.check for each in found] == [
        "settings", "disk", "artifacts", "engine", "deployed", "catalogue", "reader", "clock",
        "versions", "registry",
    ]  # fmt: skip
    assert {each.level for each in found} == {"ok"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("drop view headrace.alerts", [("catalogue", "headrace.alerts is missing")]),
        ("drop table events.rejected cascade", [
            ("catalogue", "events.rejected is missing"),
            ("catalogue", "headrace.rejected_events is missing"),
        ]),
        (
            "alter table events.inference disable trigger item_panes__events_inference_insert",
            [("catalogue", f"panes.item_panes {NOT_UPDATED}")],
        ),
        (
            "drop trigger shadow_panes__panes_shadow_pairs_insert on panes.shadow_pairs;"
            "drop trigger shadow_panes__panes_shadow_pairs_update on panes.shadow_pairs",
            [("catalogue", f"panes.shadow_panes {NOT_UPDATED}")],
        ),
        (
            "update control.deployed set sha256 = 'old' where name = 'dbt'",
            [("deployed", "the dbt in the database is not that of this version")],
        ),
        (
            "delete from control.deployed where name = 'sql'",
            [("deployed", "the sql in the database is not that of this version")],
        ),
        (
            "revoke select on headrace.alerts from headrace_reader",
            [("reader", "headrace_reader cannot read headrace.alerts")],
        ),
        (
            "grant usage on schema events to headrace_reader;"
            "grant select on events.feedback to headrace_reader",
            [
                ("reader", "headrace_reader can read events.feedback"),
                ("reader", "headrace_reader can use schema events"),
            ],
        ),
        (
            "grant update on headrace.model_clock to headrace_reader",
            [("reader", "headrace_reader can change headrace.model_clock")],
        ),
        (
            "grant create on schema public to headrace_reader",
            [("reader", "headrace_reader can create objects in schema public")],
        ),
        (
            "grant usage on schema locks to public",
            [("reader", "headrace_reader can use schema locks")],
        ),
        (
            "grant execute on function pg_advisory_lock(bigint), lo_create(oid) to public",
            [("reader", "headrace_reader can call 2 functions that lock or store something, "
                        "as lo_create(oid), pg_advisory_lock(bigint)")],
        ),
        (
            "do $$ begin execute format('grant temporary, create on database %I to "
            "headrace_reader', current_database()); end $$",
            [
                ("reader", "headrace_reader can create temporary tables"),
                ("reader", "headrace_reader can create schemas"),
            ],
        ),
    ],
)  # fmt: skip
def test_a_fault_of_the_database(engine: Engine, fault: str, said: list[tuple[str, str]]) -> None:
    with engine.connect() as connection:
        connection.execute(fault)
    assert problems(examine(engine.settings)) == said


@pytest.mark.parametrize(
    ("fault", "undo", "said"),
    [
        ("connection limit -1", "connection limit 20", "can take every connection"),
        ("createrole createdb", "nocreaterole nocreatedb", "can create roles"),
        ("reset statement_timeout", "set statement_timeout = '60s'", "has no statement_timeout"),
        (
            "set statement_timeout = 0", "set statement_timeout = '60s'",
            "statement_timeout of headrace_reader is 0, not 60s",
        ),
        ("password 'mine'", "", "the password of headrace_reader is not the one in its file"),
    ],
)  # fmt: skip
def test_a_fault_of_the_reader_itself(
    engine: Engine, template: EmbeddedPostgres, fault: str, undo: str, said: str
) -> None:
    embedded = Engine(engine.dsn, Settings(home=template.folder.parent))
    with engine.connect() as connection:
        try:
            connection.execute(f"alter role headrace_reader {fault}")
            assert any(
                said in says for _, says in problems(findings.run(doctor.check_reader, embedded))
            )
        finally:
            if undo:
                connection.execute(f"alter role headrace_reader {undo}")
            embedded.dialect.keep_reader(connection, embedded.settings)
    assert not problems(findings.run(doctor.check_reader, embedded))


def promoted(engine: Engine, uri: str) -> list[tuple[str, str]]:
    """What the doctor says once a version with this address serves."""
    with engine.connect() as connection:
        connection.execute(
            "insert into events.model_events (event_id, event_time, model, model_version, event, "
            "artifact_uri) values ('e', now(), 'churn', 'v1', 'promoted', %s)",
            [uri],
        )
    return problems(examine(engine.settings))


def test_what_serves_must_be_readable_here(engine: Engine) -> None:
    folder = engine.settings.artifacts_path.resolve() / "churn" / "v1"
    ((check, says),) = promoted(engine, folder.as_uri())
    assert check == "versions" and says.startswith("churn v1 serves, but artifact_uri: there is no")
    folder.mkdir(parents=True)
    assert not problems(examine(engine.settings))


def test_what_serves_must_be_in_the_folder_of_versions(engine: Engine, tmp_path: Path) -> None:
    ((check, says),) = promoted(engine, tmp_path.as_uri())
    assert check == "versions"
    assert f"must be inside {engine.settings.artifacts_path.resolve()}" in says


def test_what_another_registry_holds_is_not_looked_for(engine: Engine) -> None:
    assert not promoted(engine, "models:/churn/7")


def test_an_engine_that_is_away(tmp_path: Path) -> None:
    away = "host=127.0.0.1 port=1 user=x connect_timeout=2"
    found = problems(examine(Settings(home=tmp_path, dsn=away, registry_dsn=away)))
    assert [check for check, _ in found] == ["engine", "registry"]
    assert "connection failed" in found[0][1]
    assert problems(examine(Settings(home=tmp_path))) == [
        ("engine", "the embedded PostgreSQL is down")
    ]


def test_settings_that_do_not_fit_together(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        host="0.0.0.0",
        kafka_security="SASL_SSL",
        kafka_ca=str(tmp_path / "ca.pem"),
        grafana_url="https://grafana.example",
    )
    said = [says for check, says in problems(examine(settings)) if check == "settings"]
    assert len(said) == 4
    for says, word in zip(said, ("ca.pem", "SASL_SSL", "GRAFANA_TOKEN", "0.0.0.0"), strict=True):
        assert word in says


def test_an_artifacts_folder_that_cannot_be_written(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ((check, says),) = problems(examine(replace(engine.settings, artifacts=str(tmp_path / "file"))))
    assert check == "artifacts" and "file cannot be written" in says


def test_little_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for free, level in ((2**28, "failed"), (2**32, "warning"), (2**34, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        (found,) = findings.run(doctor.check_disk, Settings(home=tmp_path))
        assert found.level == level


VECTOR = (
    "select coalesce(installed_version, default_version) as version "
    "from pg_available_extensions where name = 'vector'"
)


class Canned(Engine):
    """An engine that returns given rows: no test runs a RisingWave."""

    def __init__(self, answers: dict[str, Any], **settings: Any) -> None:
        super().__init__("", Settings(**settings))
        self.answers = answers

    def rows(self, query: str, _: Any = None) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.answers[query]
        return rows

    def connect(self, **_: Any) -> Any:
        @contextmanager
        def connection() -> Iterator[Any]:
            yield SimpleNamespace(
                execute=lambda query: SimpleNamespace(fetchall=lambda: self.answers[query])
            )

        return connection()


@pytest.mark.parametrize(
    ("engine_setting", "version", "level", "says"),
    [
        ("risingwave", "PostgreSQL 13.14.0-RisingWave-2.8.4 (abc)", "ok", "RisingWave 2.8.4"),
        ("risingwave", "PostgreSQL 13.14.0-RisingWave-2.8.5 (abc)", "warning", "2.8.5: Headrace"),
        ("risingwave", "PostgreSQL 13.14.0-RisingWave-3.0.0-alpha (abc)", "warning", "on 2.8.4"),
        ("risingwave", "PostgreSQL 18.1 on x86_64", "failed", "HEADRACE_ENGINE is risingwave"),
        ("postgres", "PostgreSQL 13.14.0-RisingWave-3.0.3 (abc)", "failed", "HEADRACE_ENGINE"),
        ("postgres", "PostgreSQL 15.9 (Debian)", "failed", "PostgreSQL 15.9 is too old"),
        ("postgres", "PostgreSQL 17beta1 on x86_64", "failed", "no pgvector"),
    ],
)
def test_the_version_of_the_engine(
    monkeypatch: pytest.MonkeyPatch, engine_setting: str, version: str, level: str, says: str
) -> None:
    monkeypatch.setattr(doctor, "server_version", lambda _: version)
    monkeypatch.setattr(doctor, "engine_of", lambda _: Canned({VECTOR: []}))
    settings = Settings(engine=engine_setting, dsn="host=there")
    (found,) = findings.run(doctor.check_engine, settings)
    assert found.level == level and says in found.says


@pytest.mark.parametrize(
    ("installed", "level", "says"),
    [("0.8.1", "ok", "PostgreSQL 17.2"), ("0.10", "ok", ""), ("0.7.4", "failed", "pgvector 0.7.4")],
)
def test_the_version_of_pgvector(
    monkeypatch: pytest.MonkeyPatch, installed: str, level: str, says: str
) -> None:
    monkeypatch.setattr(doctor, "server_version", lambda _: "PostgreSQL 17.2 on x86_64")
    monkeypatch.setattr(doctor, "engine_of", lambda _: Canned({VECTOR: [{"version": installed}]}))
    (found,) = findings.run(doctor.check_engine, Settings(dsn="host=there"))
    assert found.level == level and says in found.says


def test_barriers_of_risingwave() -> None:
    for interval, level in (("200", "ok"), ("1000", "ok"), ("5000", "warning")):
        shown = [("barrier_interval_ms", interval, "t"), ("checkpoint_frequency", "1", "t")]
        engine = Canned({"show parameters": shown}, engine="risingwave")
        (found,) = findings.run(cluster.check_barriers, engine)
        assert (found.level, found.says) == (level, f"a barrier every {interval} ms")


@pytest.mark.parametrize(
    ("cores", "count", "level"),
    [(1, 100, "ok"), (1, 101, "warning"), (4, 1_600, "warning"), (4, 1_604, "failed")],
)
def test_actors_of_risingwave(cores: int, count: int, level: str) -> None:
    query = (
        "select worker_id, parallelism, actor_count from rw_catalog.rw_worker_actor_count "
        "order by worker_id"
    )
    rows = [{"worker_id": 7, "parallelism": cores, "actor_count": count}]
    (found,) = findings.run(cluster.check_actors, Canned({query: rows}, engine="risingwave"))
    assert found.level == level
    assert found.says.startswith(f"node 7 runs {count // cores} actors a core")


def test_clocks() -> None:
    for seconds, level in ((0, "ok"), (-1.9, "ok"), (2.1, "warning"), (-400, "failed")):
        assert findings.clock_skew(timedelta(seconds=seconds), "its clock").level == level


def test_risingwave_says_when_its_last_checkpoint_was() -> None:
    for engine, level in (("risingwave", "ok"), ("postgres", "warning")):
        answers = {"select now() as now": [{"now": datetime.now(UTC) - timedelta(seconds=4)}]}
        (found,) = findings.run(doctor.check_clock, Canned(answers, engine=engine))
        assert found.level == level


def test_an_error_is_a_finding() -> None:
    def check() -> findings.Findings:
        yield findings.ok("so far")
        raise EngineError("it\nis away")

    assert [(found.level, found.says) for found in findings.run(check)] == [
        ("ok", "so far"),
        ("failed", "it is away"),
    ]


def test_the_command(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_DSN", engine.dsn)
    monkeypatch.setenv("HEADRACE_HOME", str(engine.settings.home))
    assert main(["doctor"]) == 0
    assert "ok       catalogue  all " in capsys.readouterr().out
    with engine.connect() as connection:
        connection.execute("drop view headrace.alerts")
    assert main(["doctor"]) == 1
    said = "failed   catalogue  headrace.alerts is missing; to do: headrace migrate --force"
    assert said in capsys.readouterr().out.splitlines()
    assert main(["doctor", "--json"]) == 1
    found = [each for each in json.loads(capsys.readouterr().out) if each["level"] == "failed"]
    assert found == [
        {
            "level": "failed",
            "says": "headrace.alerts is missing",
            "do": "headrace migrate --force",
            "check": "catalogue",
        }
    ]

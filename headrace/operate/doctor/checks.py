"""Checks of the settings, this machine and the database.

A check is a function `check_NAME` that yields findings; `run` turns its errors into findings.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import yaml  # type: ignore[import-untyped]

from headrace.deploy import digests
from headrace.engine import Engine
from headrace.engine.dialect import READER
from headrace.engine.embedded import embedded_postgres
from headrace.errors import ModelError, one_line
from headrace.model.artifact import artifact_path, local_path
from headrace.operate.doctor.findings import Finding, Findings, clock_skew, failed, ok, warning
from headrace.operate.doctor.reader_role import faults
from headrace.settings import PREFIX, Settings, project_path

OLDEST_POSTGRES = (16, 0)
# Older ones have no halfvec, or do not go on where a filter leaves few rows.
OLDEST_PGVECTOR = (0, 8)
TESTED_RISINGWAVE = "2.8.4"
# Free bytes below which the check of the disk warns, and fails.
LITTLE_DISK, NO_DISK = 5 * 2**30, 2**29
# now() of RisingWave is its last checkpoint, which may be this old.
CHECKPOINT = timedelta(seconds=5)


def engine_of(settings: Settings) -> Engine:
    """Return the engine of the settings; an embedded one must be running."""
    return Engine(settings.dsn or embedded_postgres(settings).dsn, settings)


def check_settings(settings: Settings) -> Findings:
    """The settings fit together."""
    secured = settings.kafka_security.startswith("SASL")
    rules = (
        (
            settings.kafka_ca and not Path(settings.kafka_ca).is_file(),
            failed(
                f"{PREFIX}KAFKA_CA is no file: {settings.kafka_ca}",
                "put the CA certificates there",
            ),
        ),
        (
            secured and not (settings.kafka_user and settings.kafka_password),
            failed(
                f"{PREFIX}KAFKA_SECURITY={settings.kafka_security} needs a user and a password",
                f"set {PREFIX}KAFKA_USER and {PREFIX}KAFKA_PASSWORD",
            ),
        ),
        (
            settings.kafka_user and not secured,
            warning(
                f"{PREFIX}KAFKA_USER is not used with {settings.kafka_security}",
                f"set {PREFIX}KAFKA_SECURITY to SASL_SSL, or unset the user",
            ),
        ),
        (
            settings.grafana_url and not settings.grafana_token,
            warning(
                f"{PREFIX}GRAFANA_URL is set, but not {PREFIX}GRAFANA_TOKEN",
                "create a service account in Grafana and set its token",
            ),
        ),
        (
            settings.host in ("0.0.0.0", "::"),
            warning(
                f"the gateway listens on {settings.host} and does not authenticate applications",
                "make its port reachable for your applications only",
            ),
        ),
    )
    findings = [finding for broken, finding in rules if broken]
    yield from findings or [ok(f"engine {settings.engine}, Kafka {settings.kafka or 'not used'}")]


def check_disk(settings: Settings) -> Findings:
    """The disk of the home (embedded database, logs, artifacts) has space."""
    folder = _existing(settings.home)
    free = shutil.disk_usage(folder).free
    says = f"{free / 2**30:.1f} GiB free at {folder}"
    if free < NO_DISK:
        yield failed(says, "free some space now: commits will fail")
    elif free < LITTLE_DISK:
        yield warning(says, f"free some space, or move {PREFIX}HOME")
    else:
        yield ok(says)


def check_artifacts(settings: Settings) -> Findings:
    """The folder of published versions can be written."""
    folder = settings.artifacts_path
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            yield ok(f"{folder} can be written")
    except OSError as error:
        yield failed(
            f"{folder} cannot be written: {one_line(error)}",
            f"make user {os.getuid()} its owner, or set {PREFIX}ARTIFACTS to another folder",
        )


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.resolve().parents) if each.exists())


def check_engine(settings: Settings) -> Findings:
    """The engine can be reached, is the one of the settings, and is new enough."""
    if not settings.dsn and embedded_postgres(settings).pid() is None:
        yield failed("the embedded PostgreSQL is down", "start it: headrace up")
        return
    try:
        version = server_version(engine_of(settings).dsn)
    except psycopg.OperationalError as error:
        yield failed(one_line(error), f"start it, or correct {PREFIX}DSN")
        return
    risingwave = re.search(r"RisingWave-([^\s(]+)", version)
    postgres = re.search(r"PostgreSQL (\d+)(?:\.(\d+))?", version)
    if postgres is None or settings.engine != ("risingwave" if risingwave else "postgres"):
        yield failed(
            f"{PREFIX}ENGINE is {settings.engine}, but the server is {version}",
            f"correct {PREFIX}ENGINE or {PREFIX}DSN",
        )
    elif risingwave is None:
        yield _check_postgres(settings, int(postgres[1]), int(postgres[2] or 0))
    elif risingwave[1] == TESTED_RISINGWAVE:
        yield ok(f"RisingWave {TESTED_RISINGWAVE}")
    else:
        yield warning(
            f"RisingWave {risingwave[1]}: Headrace is tested on {TESTED_RISINGWAVE} only",
            "test it on a cluster without data: make test-risingwave",
        )


def _check_postgres(settings: Settings, major: int, minor: int) -> Finding:
    name = f"PostgreSQL {major}.{minor}"
    if (major, minor) < OLDEST_POSTGRES:
        oldest = ".".join(map(str, OLDEST_POSTGRES))
        return failed(f"{name} is too old", f"use {oldest} or later")
    found = engine_of(settings).rows(
        "select coalesce(installed_version, default_version) as version "
        "from pg_available_extensions where name = 'vector'"
    )
    if not found:
        return failed(f"{name} has no pgvector", "install the extension vector on the server")
    version = found[0]["version"]
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_PGVECTOR:
        oldest = ".".join(map(str, OLDEST_PGVECTOR))
        return failed(f"{name} has pgvector {version}", f"install {oldest} or later")
    return ok(name)


def server_version(dsn: str) -> str:
    """Return `version()` of a PostgreSQL or RisingWave server."""
    # RisingWave rejects a request for GSS encryption as a malformed message.
    with psycopg.connect(dsn, autocommit=True, gssencmode="disable") as connection:
        row = connection.execute("select version()").fetchone()
    return str(row[0]) if row else ""


def check_deployed(engine: Engine) -> Findings:
    """The SQL and the dbt project in the database are those of this version."""
    there = {
        row["name"]: row["sha256"]
        for row in engine.rows("select name, sha256 from control.deployed")
    }
    wanted = digests(engine)
    outdated = [name for name, sha256 in wanted.items() if there.get(name) != sha256]
    for name in outdated:
        yield failed(f"the {name} in the database is not that of this version", "headrace migrate")
    if not outdated:
        yield ok(f"{' and '.join(wanted)} are those of this version")


def check_catalogue(engine: Engine) -> Findings:
    """Every table, pane and view exists, and so do the triggers that update the panes."""
    wanted = _catalogue()
    there = {
        f"{row['schema']}.{row['name']}"
        for row in engine.rows(
            """
            select pg_namespace.nspname as schema, pg_class.relname as name
            from pg_class
            inner join pg_namespace on pg_class.relnamespace = pg_namespace.oid
            """
        )
    }
    findings = [
        failed(f"{name} is missing", "headrace migrate --force")
        for name in wanted
        if name not in there
    ]
    if engine.settings.engine == "postgres":
        findings += [
            failed(
                f"panes.{name} is not updated: a trigger of it is missing or disabled",
                "headrace dbt run --full-refresh",
            )
            for name in _without_trigger(engine)
        ]
    with engine.connect() as connection:
        findings += [
            warning(f"view {what}: {why}", "replace or drop it, then headrace migrate")
            for what, why in engine.dialect.left_behind(connection, retry=False)
        ]
    yield from findings or [ok(f"all {len(wanted)} tables and views exist")]


def _without_trigger(engine: Engine) -> list[str]:
    """Return the panes of which a trigger is missing or disabled."""
    triggers = engine.rows(
        "select tgname as name, tgenabled in ('O', 'A') as enabled from pg_trigger "
        "where not tgisinternal and tgname like '%\\_\\_%'"
    )
    enabled: dict[str, bool] = {}
    for row in triggers:
        pane = row["name"].removeprefix("a_").split("__")[0]
        enabled[pane] = enabled.get(pane, True) and row["enabled"]
    return [name for name in _models("panes") if not enabled.get(name)]


def _models(folder: str) -> list[str]:
    return sorted(
        file.stem for file in (project_path("dbt_project") / "models" / folder).glob("*.sql")
    )


def _catalogue() -> list[str]:
    """Return the tables that the dbt project reads and the relations it makes, as schema.name."""
    models = project_path("dbt_project") / "models"
    sources = yaml.safe_load((models / "sources.yml").read_text())["sources"]
    return [
        *(
            f"{source['schema']}.{table['name']}"
            for source in sources
            for table in source["tables"]
        ),
        *(f"panes.{name}" for name in _models("panes")),
        *(f"headrace.{name}" for name in _models("marts")),
    ]


def check_reader(engine: Engine) -> Findings:
    """The role of dashboards and analysts can read all marts, and do nothing else."""
    yield from list(faults(engine)) or [ok(f"{READER} can read the marts and do nothing else")]


def check_clock(engine: Engine) -> Findings:
    """The clock of the engine agrees with that of this machine."""
    before = datetime.now(UTC)
    theirs: datetime = engine.rows("select now() as now")[0]["now"]
    after = datetime.now(UTC)
    ahead = theirs - after if theirs > after else min(theirs - before, timedelta())
    if engine.settings.engine == "risingwave" and ahead < timedelta():
        ahead = min(ahead + CHECKPOINT, timedelta())
    yield clock_skew(ahead, "the engine's clock")


def check_versions(engine: Engine) -> Findings:
    """This machine can read the artifacts of the versions that serve."""
    rows = engine.rows(
        "select model, model_version, artifact_uri from headrace.serving_plan "
        "order by model, model_version"
    )
    findings = []
    for row in rows:
        if local_path(row["artifact_uri"]) is None:
            continue  # another system serves it from its own registry
        try:
            artifact_path(row["artifact_uri"], engine.settings.artifacts_path)
        except ModelError as error:
            says = f"{row['model']} {row['model_version']} serves, but {one_line(error)}"
            do = f"share {PREFIX}ARTIFACTS between the trainer and the gateways"
            findings.append(failed(says, do))
    yield from findings or [ok(f"{len(rows)} versions serve, and all can be read")]


def check_registry(settings: Settings) -> Findings:
    """The PostgreSQL of Feast's registry can be reached."""
    try:
        version = server_version(settings.registry_dsn)
    except psycopg.OperationalError as error:
        yield failed(one_line(error), f"start it, or correct {PREFIX}REGISTRY_DSN")
        return
    if "RisingWave" in version:
        yield failed("the registry is a RisingWave", "Feast needs a PostgreSQL")
    else:
        yield ok("reachable")

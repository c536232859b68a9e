"""The doctor: what is wrong with a deployment, and what to do about it.

Each check is a function that yields what it found; what it cannot look at, because that is away or
refuses, is a finding, too. Nothing is changed and nothing is started.
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
from headrace.operate.doctor.findings import Findings, failed, ok, skewed, warning
from headrace.operate.doctor.reader_role import faults
from headrace.settings import PREFIX, Settings, project_path

OLDEST = (16, 0)
# The RisingWave that Headrace was seen to work on.
SEEN = "2.8.4"
# Free disk in bytes: time to act, and soon nothing can be written.
LITTLE_DISK, NO_DISK = 5 * 2**30, 2**29
# What RisingWave calls now is the last checkpoint: so far behind is as it should be.
CHECKPOINT = timedelta(seconds=5)


def engine_of(settings: Settings) -> Engine:
    """Return the engine of these settings; an embedded one must be running."""
    return Engine(settings.dsn or embedded_postgres(settings).dsn, settings)


def settings_(settings: Settings) -> Findings:
    """What no single setting can tell by itself."""
    secured = settings.kafka_security.startswith("SASL")
    rules = (
        (
            settings.kafka_ca and not Path(settings.kafka_ca).is_file(),
            failed(f"{PREFIX}KAFKA_CA names no file: {settings.kafka_ca}", "put it there"),
        ),
        (
            secured and not (settings.kafka_user and settings.kafka_password),
            failed(
                f"{PREFIX}KAFKA_SECURITY={settings.kafka_security} without a user or a password",
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
                f"{PREFIX}GRAFANA_URL without {PREFIX}GRAFANA_TOKEN",
                "make a service account in Grafana and set its token",
            ),
        ),
        (
            settings.host in ("0.0.0.0", "::"),
            warning(
                f"the gateway listens on all addresses ({settings.host}) and asks nobody who he is",
                "let only your applications reach its port",
            ),
        ),
    )
    found = [finding for broken, finding in rules if broken]
    yield from found or [ok(f"engine {settings.engine}, Kafka {settings.kafka or 'not used'}")]


def disk(settings: Settings) -> Findings:
    """Where the home is: the embedded database, logs and artifacts."""
    folder = _existing(settings.home)
    free = shutil.disk_usage(folder).free
    says = f"{free / 2**30:.1f} GiB free at {folder}"
    if free < NO_DISK:
        yield failed(says, "make room now: commits will fail")
    elif free < LITTLE_DISK:
        yield warning(says, f"make room, or move {PREFIX}HOME")
    else:
        yield ok(says)


def artifacts(settings: Settings) -> Findings:
    """Whether the trainer may publish here."""
    folder = settings.artifacts_path
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            yield ok(f"{folder} can be written")
    except OSError as error:
        yield failed(
            f"{folder} cannot be written: {one_line(error)}",
            f"give it to user {os.getuid()}, or set {PREFIX}ARTIFACTS to a folder of his",
        )


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.resolve().parents) if each.exists())


def engine_(settings: Settings) -> Findings:
    """The engine answers, is what the settings say, and is new enough."""
    if not settings.dsn and embedded_postgres(settings).pid() is None:
        yield failed("the embedded PostgreSQL is down", "start it: headrace up")
        return
    try:
        said = version(engine_of(settings).dsn)
    except psycopg.OperationalError as error:
        yield failed(one_line(error), f"start it, or mend {PREFIX}DSN")
        return
    wave = re.search(r"RisingWave-([^\s(]+)", said)
    plain = re.search(r"PostgreSQL (\d+)(?:\.(\d+))?", said)
    if plain is None or settings.engine != ("risingwave" if wave else "postgres"):
        yield failed(
            f"{PREFIX}ENGINE is {settings.engine}, but the server is {said}",
            f"set {PREFIX}ENGINE, or mend {PREFIX}DSN",
        )
        return
    if wave:
        if wave[1] == SEEN:
            yield ok(f"RisingWave {SEEN}")
        else:
            yield warning(
                f"RisingWave {wave[1]}: Headrace was seen to work on {SEEN} alone",
                "try it on a cluster that may break: make test-risingwave",
            )
        return
    number = (int(plain[1]), int(plain[2] or 0))
    name = f"PostgreSQL {number[0]}.{number[1]}"
    if number < OLDEST:
        yield failed(f"{name} is too old", f"use {OLDEST[0]}.{OLDEST[1]} or later")
    elif engine_of(settings).rows("select 1 from pg_available_extensions where name = 'vector'"):
        yield ok(name)
    else:
        yield failed(f"{name} has no pgvector", "install the extension vector on the server")


def version(dsn: str) -> str:
    """Return what a server says it is, whichever of the two it is."""
    # RisingWave takes the request for GSS encryption for a broken message.
    with psycopg.connect(dsn, autocommit=True, gssencmode="disable") as connection:
        row = connection.execute("select version()").fetchone()
    return str(row[0]) if row else ""


def deployed(engine: Engine) -> Findings:
    """The SQL and the dbt project that the database has are those of this version."""
    known = {
        row["name"]: row["sha256"]
        for row in engine.rows("select name, sha256 from control.deployed")
    }
    wanted = digests(engine)
    outdated = [name for name, sha256 in wanted.items() if known.get(name) != sha256]
    for name in outdated:
        yield failed(f"the {name} of the database is of another version", "headrace migrate")
    if not outdated:
        yield ok(f"{' and '.join(wanted)} are of this version")


def catalogue(engine: Engine) -> Findings:
    """Every table, pane and view is there, and so are the triggers that keep the panes."""
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
    found = [
        failed(f"{name} is missing", "headrace migrate --force")
        for name in wanted
        if name not in there
    ]
    if engine.settings.engine == "postgres":
        found += [
            failed(
                f"panes.{name} stands still: a trigger of it is gone or disabled",
                "headrace dbt run --full-refresh",
            )
            for name in _without_trigger(engine)
        ]
    yield from found or [ok(f"all {len(wanted)} tables and views are there")]


def _without_trigger(engine: Engine) -> list[str]:
    """Return the panes that a trigger should keep and does not."""
    triggers = engine.rows(
        "select tgname as name, tgenabled in ('O', 'A') as works from pg_trigger "
        "where not tgisinternal and tgname like '%\\_\\_%'"
    )
    works: dict[str, bool] = {}
    for row in triggers:
        pane = row["name"].removeprefix("a_").split("__")[0]
        works[pane] = works.get(pane, True) and row["works"]
    return [name for name in _models("panes") if not works.get(name)]


def _models(folder: str) -> list[str]:
    return sorted(
        file.stem for file in (project_path("dbt_project") / "models" / folder).glob("*.sql")
    )


def _catalogue() -> list[str]:
    """Return what the dbt project reads and makes, as schema.name."""
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


def reader(engine: Engine) -> Findings:
    """The role of dashboards and analysts sees all marts and nothing else, and holds nothing up."""
    found = [
        failed(fault.says, fault.do) if fault.grave else warning(fault.says, fault.do)
        for fault in faults(engine)
    ]
    yield from found or [ok(f"{READER} sees the marts and nothing else, and holds nothing up")]


def clock(engine: Engine) -> Findings:
    """The clocks of the engine and of this machine."""
    before = datetime.now(UTC)
    theirs: datetime = engine.rows("select now() as now")[0]["now"]
    after = datetime.now(UTC)
    ahead = theirs - after if theirs > after else min(theirs - before, timedelta())
    if engine.settings.engine == "risingwave" and ahead < timedelta():
        ahead = min(ahead + CHECKPOINT, timedelta())
    yield skewed(ahead, "the engine's clock")


def versions(engine: Engine) -> Findings:
    """The versions that Headrace is to serve lie where this machine can read them."""
    rows = engine.rows(
        "select model, model_version, artifact_uri from headrace.serving_plan "
        "order by model, model_version"
    )
    found = []
    for row in rows:
        if local_path(row["artifact_uri"]) is None:
            continue  # served by somebody else, from a registry of theirs
        try:
            artifact_path(row["artifact_uri"], engine.settings.artifacts_path)
        except ModelError as error:
            says = f"{row['model']} {row['model_version']} serves, but {one_line(error)}"
            do = f"share {PREFIX}ARTIFACTS between the trainer and the gateways"
            found.append(failed(says, do))
    yield from found or [ok(f"{len(rows)} versions serve, and all can be read")]


def registry(settings: Settings) -> Findings:
    """The PostgreSQL that holds Feast's registry."""
    try:
        said = version(settings.registry_dsn)
    except psycopg.OperationalError as error:
        yield failed(one_line(error), f"start it, or mend {PREFIX}REGISTRY_DSN")
        return
    if "RisingWave" in said:
        yield failed("the registry is a RisingWave", "Feast needs a PostgreSQL")
    else:
        yield ok("reachable")

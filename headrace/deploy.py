"""Deployment: tables, roles, views and topics as this version of Headrace needs them."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from headrace.engine import Engine, Say, open_engine
from headrace.engine.dialect import Connection
from headrace.engine.patience import patiently
from headrace.engine.reach import has
from headrace.errors import EngineError
from headrace.machine import end_with_parent
from headrace.settings import Settings, project_path

log = logging.getLogger(__name__)

# Names in control.deployed.
SQL_FILES, DBT_PROJECT = "sql", "dbt"
# The topic of due triggers, for other systems.
TRIGGERS = "triggers"
# dbt's line for a model that is done, after the time: "12 of 81 OK created sql pane model ...".
_MODEL_DONE = re.compile(r"\d+ of (\d+) (?!START)[A-Z]+ (?!hook)")
_TIME = re.compile(r"^\d\d:\d\d:\d\d +")

_DEFAULT_POLICIES = "select policy from control.policies where model = '*'"
_DEFAULT_LABEL_POLICIES = "select kind from control.label_policies where model = '*'"


@contextmanager
def ready_engine(settings: Settings, *, say: Say | None = None) -> Iterator[Engine]:
    """Reach the database as `open_engine` does, and `prepare` it.

    Raises:
        EngineError: it cannot be started or reached, or `prepare` failed.
    """
    with open_engine(settings, say=say) as engine:
        prepare(engine, say)
        yield engine


def prepare(engine: Engine, say: Say | None = None) -> None:
    """Bring tables and views up to this version, or check that somebody has.

    Where any process may migrate, this one does; else it only looks whether `headrace migrate` ran.

    Raises:
        EngineError: a statement or a dbt model failed, or `headrace migrate` never ran.
    """
    if engine.dialect.migrates_by_itself:
        migrate(engine, say=say)
        return
    with engine.connect() as connection:
        deployed = _deployed(connection, DBT_PROJECT)
    if deployed is None:
        raise EngineError("there are no views yet: run `headrace migrate` once")
    if deployed != digests(engine)[DBT_PROJECT]:
        log.warning("the views are of another version; `headrace migrate` brings them up to it")


def migrate(engine: Engine, *, force: bool = False, say: Say | None = None) -> None:
    """Bring tables, roles and views up to the project's SQL; do nothing when they are.

    Raises:
        EngineError: a statement or a dbt model failed; the text says which and why.
    """
    with (
        engine.connect() as gate,
        engine.dialect.migrating(gate, engine.settings),
        engine.connect() as connection,
    ):
        wanted = digests(engine)
        if engine.dialect.reads_topics:
            _make_topics(engine.settings)
        _apply_sql(engine, connection, wanted[SQL_FILES], force, say or _silently)
        _apply_dbt(engine, connection, wanted[DBT_PROJECT], force, say or _silently)
        engine.dialect.keep_reader(connection, engine.settings)
        for what, why in engine.dialect.left_behind(connection, retry=True):
            log.warning("view %s: %s; to do: replace or drop it, then headrace migrate", what, why)


def digests(engine: Engine) -> dict[str, str]:
    """Return the digests of the SQL and the dbt project, as `migrate` records them."""
    seeds = sorted(project_path("sql").glob("*.csv"))
    return {
        SQL_FILES: _digest([*_sql_files(engine), *seeds]),
        DBT_PROJECT: _digest(_dbt_files(engine)),
    }


def dbt(engine: Engine, *arguments: str, echo: bool = False, say: Say | None = None) -> None:
    """Run ``dbt ARGUMENTS`` on this database; with `echo` its output goes to the terminal.

    `say` is called with how many views are done.

    Raises:
        EngineError: dbt ended with an error; the text ends with its last lines.
    """
    project = project_path("dbt_project")
    colors = {} if echo else {"DBT_USE_COLORS": "false"}
    with subprocess.Popen(
        [str(Path(sys.executable).parent / "dbt"), *arguments],
        env={**os.environ, **dbt_environment(engine), **colors},
        cwd=project,
        stdout=None if echo else subprocess.PIPE,
        stderr=None if echo else subprocess.STDOUT,
        text=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    ) as process:
        tail = " | ".join(_tail(process.stdout or (), say or _silently))
    if process.returncode != 0:
        raise EngineError(f"dbt {arguments[0]} failed: {tail or 'see its output'}")


def dbt_connection(engine: Engine) -> dict[str, str]:
    """Return the variables that dbt's profile reads, and where it is (holds the password)."""
    parts = conninfo_to_dict(engine.dsn)
    return {
        "HEADRACE_PGTARGET": engine.dialect.name,
        "HEADRACE_PGHOST": str(parts.get("host") or "127.0.0.1"),
        "HEADRACE_PGPORT": str(parts.get("port") or engine.dialect.port),
        "HEADRACE_PGUSER": str(parts.get("user") or ""),
        "HEADRACE_PGPASSWORD": str(parts.get("password") or ""),
        "HEADRACE_PGDATABASE": str(parts.get("dbname") or ""),
        "DBT_PROFILES_DIR": str(project_path("dbt_project").resolve()),
    }


def dbt_environment(engine: Engine) -> dict[str, str]:
    """Return the environment of dbt: the connection, and where its files go."""
    logs = engine.settings.home.resolve() / "dbt"
    return {
        **dbt_connection(engine),
        "DBT_TARGET_PATH": str(logs / "target"),
        "DBT_LOG_PATH": str(logs / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }


def _make_topics(settings: Settings) -> None:
    """Make the topics; RisingWave refuses sources and sinks without them."""
    from headrace.events.kafka.brokers import admin_client
    from headrace.events.kafka.topics import await_leaders, make_topics

    with admin_client(settings) as admin:
        make_topics(admin, settings, TRIGGERS)
        await_leaders(admin, settings, TRIGGERS)


def _apply_sql(engine: Engine, connection: Connection, digest: str, force: bool, say: Say) -> None:
    if not force and _deployed(connection, SQL_FILES) == digest:
        return
    say("tables: making them, and the roles")
    for file in _sql_files(engine):
        engine.dialect.apply(connection, file, engine.settings)
    _seed(engine, connection)
    _record(engine, connection, SQL_FILES, digest)


def _apply_dbt(engine: Engine, connection: Connection, digest: str, force: bool, say: Say) -> None:
    if not force and _deployed(connection, DBT_PROJECT) == digest:
        return
    say("views: reading the project, the longest part of a first start")
    patiently(lambda: dbt(engine, *engine.dialect.dbt_run, say=say))
    for file in _sql_files(engine, "after"):
        engine.dialect.apply(connection, file, engine.settings)
    _record(engine, connection, DBT_PROJECT, digest)


def _sql_files(engine: Engine, *folders: str) -> list[Path]:
    return sorted(project_path("sql").joinpath(engine.dialect.name, *folders).glob("*.sql"))


def _dbt_files(engine: Engine) -> list[Path]:
    project = project_path("dbt_project")
    files = [
        path
        for folder in ("models", "macros", "seeds")
        for path in sorted((project / folder).rglob("*"))
        if path.is_file()
    ]
    return [project / "dbt_project.yml", *files, *_sql_files(engine, "after")]


def _seed(engine: Engine, connection: Connection) -> None:
    """Bring the list of policies up to date; values that people have set stay."""
    put, now = engine.dialect.put, datetime.now(UTC)
    policies = _seeds("policies")
    put(connection, "control.policy_kinds", ["policy"], policies)
    engine.dialect.flush(connection)
    known = {row[0] for row in connection.execute(_DEFAULT_POLICIES)}
    defaults = [
        {
            "model": "*",
            "policy": row["policy"],
            "value": row["default_value"],
            "updated_at": now,
        }
        for row in policies
        if row["policy"] not in known
    ]
    if defaults:
        put(connection, "control.policies", ["model", "policy"], defaults)
    known = {row[0] for row in connection.execute(_DEFAULT_LABEL_POLICIES)}
    kinds = [
        {
            "model": "*", "kind": row["kind"], "wins": row["wins"],
            "priority": int(row["priority"]), "weight": float(row["weight"]),
        }
        for row in _seeds("label_policies")
        if row["kind"] not in known
    ]  # fmt: skip
    if kinds:
        put(connection, "control.label_policies", ["model", "kind"], kinds)
    engine.dialect.flush(connection)


def _record(engine: Engine, connection: Connection, name: str, digest: str) -> None:
    row = {"name": name, "sha256": digest, "deployed_at": datetime.now(UTC)}
    engine.dialect.put(connection, "control.deployed", ["name"], [row])
    engine.dialect.flush(connection)


def _silently(_: str) -> None:
    """Say nothing."""


def _tail(lines: Iterable[str], say: Say) -> list[str]:
    """Read dbt's output and report its progress; return the last other lines."""
    done, said = 0, deque[str](maxlen=12)
    for line in lines:
        text = _TIME.sub("", line).strip()
        if model := _MODEL_DONE.match(text):
            done += 1
            say(f"views: {done}/{model[1]}")
        elif text.startswith("rebuilding "):
            say(text)
        elif text and " START " not in text:
            said.append(text)
    return list(said)


def _deployed(connection: Connection, name: str) -> str | None:
    if not has(connection, "control.deployed"):
        return None
    row = connection.execute(
        "select sha256 from control.deployed where name = %s", [name]
    ).fetchone()
    return row[0] if row else None


def _seeds(name: str) -> list[dict[str, str]]:
    """Return the rows of a file of `sql/` by column."""
    with (project_path("sql") / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()

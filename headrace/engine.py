"""The engine: a PostgreSQL or a RisingWave, with our tables, views and roles in it.

What differs between the two is in `Engine.dialect`.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from headrace.dialect import READER, Connection, Dialect
from headrace.embedded import embedded_postgres
from headrace.errors import EngineError, one_line
from headrace.patience import patiently
from headrace.postgres import Postgres
from headrace.processes import end_with_parent
from headrace.risingwave import RisingWave
from headrace.settings import Settings, project_path

log = logging.getLogger(__name__)

DIALECTS: dict[str, Dialect] = {each.name: each for each in (Postgres(), RisingWave())}
# Tells a person what is being done, a line at a time; what is before a colon is the step.
Say = Callable[[str], None]
# What was deployed last, by the names of control.deployed.
SQL_FILES, DBT_PROJECT = "sql", "dbt"


class Engine:
    """A way to reach the database. Make one with `open_engine`."""

    def __init__(self, dsn: str, settings: Settings) -> None:
        self.dsn = dsn
        self.settings = settings
        self.dialect = DIALECTS[settings.engine]

    @property
    def registry_dsn(self) -> str:
        """Connection string of the PostgreSQL that has Feast's registry."""
        return self.settings.registry_dsn or self.dsn

    def connect(self, *, autocommit: bool = True, **options: Any) -> Connection:
        """Return a new connection whose session speaks UTC."""
        options.setdefault("application_name", "headrace")
        try:
            return self.dialect.connect(self.dsn, autocommit=autocommit, **options)
        except psycopg.Error as error:
            raise EngineError(f"cannot reach the database: {one_line(error)}") from None

    @contextmanager
    def writing(self, **options: Any) -> Iterator[Connection]:
        """A connection for changes that can be read once the block has ended.

        On PostgreSQL they are one transaction, on RisingWave each statement counts by itself.
        """
        with self.connect(**options) as connection, self.dialect.writing(connection):
            yield connection

    def flush(self) -> None:
        """Return once what was written before can be read."""
        with self.connect() as connection:
            self.dialect.flush(connection)

    def rows(
        self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run one query on a connection of its own and return its rows as dicts."""
        with self.connect(row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def has(self, relation: str) -> bool:
        """Whether there is a table or view of this name, which has a schema."""
        with self.connect() as connection:
            return _has(connection, relation)

    @property
    def knows_reader(self) -> bool:
        """Whether it can connect as the role that sees the marts and nothing else."""
        return bool(self.settings.reader_dsn or not self.settings.dsn)

    def reader_dsn(self) -> str:
        """Connection string of that role; where it is not known, the engine's own."""
        if self.settings.dsn:
            return self.settings.reader_dsn or self.dsn
        embedded = embedded_postgres(self.settings)
        return make_conninfo(self.dsn, user=READER, password=embedded.password(READER))

    def prepare(self, say: Say | None = None) -> None:
        """Have tables and views as this version needs them.

        Where any process may migrate, it does so; else that is a person's step and is looked for.

        Raises:
            EngineError: a statement or a dbt model failed, or `headrace migrate` never ran.
        """
        if self.dialect.migrates_by_itself:
            self.migrate(say=say)
            return
        with self.connect() as connection:
            deployed = _deployed(connection, DBT_PROJECT)
        if deployed is None:
            raise EngineError("there are no views yet: run `headrace migrate` once")
        if deployed != self.digests()[DBT_PROJECT]:
            log.warning("the views are of another version; `headrace migrate` brings them up to it")

    def migrate(self, *, force: bool = False, say: Say | None = None) -> None:
        """Bring tables, roles and views up to the project's SQL; nothing happens when they are.

        Raises:
            EngineError: a statement or a dbt model failed; the text says which and why.
        """
        with (
            self.connect() as gate,
            self.dialect.migrating(gate, self.settings),
            self.connect() as connection,
        ):
            digests = self.digests()
            self._apply_sql(connection, digests[SQL_FILES], force, say or _nobody)
            self._apply_dbt(connection, digests[DBT_PROJECT], force, say or _nobody)
            self.dialect.keep_reader(connection, self.settings)

    def digests(self) -> dict[str, str]:
        """Return what the SQL and the dbt project of this version are, as `migrate` notes it."""
        seeds = sorted(project_path("sql").glob("*.csv"))
        return {
            SQL_FILES: _digest([*self._sql_files(), *seeds]),
            DBT_PROJECT: _digest(self._dbt_files()),
        }

    def dbt(self, *arguments: str, echo: bool = False, say: Say | None = None) -> None:
        """Run ``dbt ARGUMENTS`` on this database; with `echo` its output goes to the terminal.

        `say` is told how many views are done.

        Raises:
            EngineError: dbt ended with an error; the text ends with its last lines.
        """
        project = project_path("dbt_project")
        colors = {} if echo else {"DBT_USE_COLORS": "false"}
        with subprocess.Popen(
            [str(Path(sys.executable).parent / "dbt"), *arguments],
            env={**os.environ, **self.dbt_environment(), **colors},
            cwd=project,
            stdout=None if echo else subprocess.PIPE,
            stderr=None if echo else subprocess.STDOUT,
            text=True,
            preexec_fn=end_with_parent if sys.platform == "linux" else None,
        ) as process:
            tail = " | ".join(_tail(process.stdout or (), say or _nobody))
        if process.returncode != 0:
            raise EngineError(f"dbt {arguments[0]} failed: {tail or 'see its output'}")

    def dbt_environment(self) -> dict[str, str]:
        """Return the environment that dbt's profile reads (holds the password)."""
        parts = conninfo_to_dict(self.dsn)
        logs = self.settings.home.resolve() / "dbt"
        return {
            "HEADRACE_PGTARGET": self.dialect.name,
            "HEADRACE_PGHOST": str(parts.get("host") or "127.0.0.1"),
            "HEADRACE_PGPORT": str(parts.get("port") or self.dialect.port),
            "HEADRACE_PGUSER": str(parts.get("user") or ""),
            "HEADRACE_PGPASSWORD": str(parts.get("password") or ""),
            "HEADRACE_PGDATABASE": str(parts.get("dbname") or ""),
            "DBT_PROFILES_DIR": str(project_path("dbt_project")),
            "DBT_TARGET_PATH": str(logs / "target"),
            "DBT_LOG_PATH": str(logs / "logs"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DO_NOT_TRACK": "1",
        }

    def _apply_sql(self, connection: Connection, digest: str, force: bool, say: Say) -> None:
        if not force and _deployed(connection, SQL_FILES) == digest:
            return
        say("tables: making them, and the roles")
        for file in self._sql_files():
            self.dialect.apply(connection, file, self.settings)
        self._seed(connection)
        self._record(connection, SQL_FILES, digest)

    def _apply_dbt(self, connection: Connection, digest: str, force: bool, say: Say) -> None:
        if not force and _deployed(connection, DBT_PROJECT) == digest:
            return
        say("views: reading the project, the longest part of a first start")
        patiently(lambda: self.dbt(*self.dialect.dbt_run, say=say))
        for file in self._sql_files("after"):
            self.dialect.apply(connection, file, self.settings)
        self._record(connection, DBT_PROJECT, digest)

    def _sql_files(self, *folders: str) -> list[Path]:
        return sorted(project_path("sql").joinpath(self.dialect.name, *folders).glob("*.sql"))

    def _dbt_files(self) -> list[Path]:
        project = project_path("dbt_project")
        files = [
            path
            for folder in ("models", "macros", "seeds")
            for path in sorted((project / folder).rglob("*"))
            if path.is_file()
        ]
        return [project / "dbt_project.yml", *files, *self._sql_files("after")]

    def _seed(self, connection: Connection) -> None:
        """Bring the policies that exist up to date; what people have set stays."""
        put, now = self.dialect.put, datetime.now(UTC)
        policies = _seeds("policies")
        put(connection, "control.policy_kinds", ["policy"], policies)
        self.dialect.flush(connection)
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
        self.dialect.flush(connection)

    def _record(self, connection: Connection, name: str, digest: str) -> None:
        row = {"name": name, "sha256": digest, "deployed_at": datetime.now(UTC)}
        self.dialect.put(connection, "control.deployed", ["name"], [row])
        self.dialect.flush(connection)


# What dbt says of a model that is done, after the time: "12 of 81 OK created sql pane model ...".
_MODEL_DONE = re.compile(r"\d+ of (\d+) (?!START)[A-Z]+ (?!hook)")
_TIME = re.compile(r"^\d\d:\d\d:\d\d +")

_DEFAULT_POLICIES = "select policy from control.policies where model = '*'"
_DEFAULT_LABEL_POLICIES = "select kind from control.label_policies where model = '*'"


@contextmanager
def open_engine(
    settings: Settings, *, migrate: bool = True, say: Say | None = None
) -> Iterator[Engine]:
    """Reach the database inside a `with` block: the embedded one, or that of HEADRACE_DSN.

    `say` is told what takes time.

    Raises:
        EngineError: it cannot be started or reached.
    """
    if settings.dsn:
        engine = Engine(settings.dsn, settings)
        engine.connect().close()
        if migrate:
            engine.prepare(say)
        yield engine
        return
    server = embedded_postgres(settings)
    if say and server.pid() is None:
        made = (server.data / "PG_VERSION").exists()
        say(f"PostgreSQL: {'starting' if made else 'making the database'} in {server.folder}")
    with server.running():
        engine = Engine(server.dsn, settings)
        if migrate:
            engine.prepare(say)
        yield engine


def _nobody(_: str) -> None:
    """Tell nobody."""


def _tail(lines: Iterable[str], say: Say) -> list[str]:
    """Read what dbt prints, telling how far it is; return the end of what else it said."""
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


def _has(connection: Connection, relation: str) -> bool:
    found = connection.execute(
        "select count(*) from information_schema.tables "
        "where table_schema = %s and table_name = %s",
        relation.split("."),
    ).fetchone()
    return bool(found and found[0])


def _deployed(connection: Connection, name: str) -> str | None:
    if not _has(connection, "control.deployed"):
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

"""The engine: a PostgreSQL, embedded or external, with our tables, views and roles in it."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from headrace.errors import EngineError
from headrace.postgres import EmbeddedPostgres
from headrace.settings import Settings, project_path

MIGRATE_LOCK = 7_482_310_003
READER = "headrace_reader"


class Engine:
    """A way to reach the database. Make one with `open_engine`."""

    def __init__(self, dsn: str, settings: Settings) -> None:
        self.dsn = dsn
        self.settings = settings

    def connect(self, *, autocommit: bool = True, **options: Any) -> psycopg.Connection[Any]:
        """Return a new connection whose session speaks UTC."""
        options.setdefault("application_name", "headrace")
        try:
            return psycopg.connect(
                self.dsn, autocommit=autocommit, options="-c timezone=UTC", **options
            )
        except psycopg.OperationalError as error:
            raise EngineError(f"cannot reach the database: {error}".strip()) from None

    def rows(
        self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run one query on a connection of its own and return its rows as dicts."""
        with self.connect(row_factory=dict_row) as connection:
            return connection.execute(query, parameters).fetchall()

    def reader_dsn(self) -> str:
        """Connection string of the role that sees the marts and nothing else."""
        if self.settings.dsn:
            return self.dsn
        embedded = embedded_postgres(self.settings)
        return make_conninfo(self.dsn, user=READER, password=embedded.password(READER))

    def migrate(self, *, force: bool = False, echo: bool = False) -> None:
        """Bring tables, roles and views up to the project's SQL; nothing happens when they are.

        Raises:
            EngineError: a statement or a dbt model failed; the text says which and why.
        """
        with self.connect() as connection:
            # Processes that start together bring the database up to date one after the other.
            connection.execute("select pg_advisory_lock(%s)", [MIGRATE_LOCK])
            if not self.settings.dsn:
                self._make_reader(connection)
            self._apply_sql(connection, force)
            self._apply_dbt(connection, force, echo)

    def dbt(self, *arguments: str, echo: bool = False) -> None:
        """Run ``dbt ARGUMENTS`` on this database; with `echo` its output goes to the terminal.

        Raises:
            EngineError: dbt ended with an error; the text ends with its last lines.
        """
        project = project_path("dbt_project")
        done = subprocess.run(
            [str(Path(sys.executable).parent / "dbt"), *arguments],
            env={**os.environ, **self.dbt_environment()},
            cwd=project,
            capture_output=not echo,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            tail = " | ".join((done.stdout or "").strip().splitlines()[-12:])
            raise EngineError(f"dbt {arguments[0]} failed: {tail or 'see its output'}")

    def dbt_environment(self) -> dict[str, str]:
        """Return the environment that dbt's profile reads (holds the password)."""
        parts = conninfo_to_dict(self.dsn)
        logs = self.settings.home.resolve() / "dbt"
        return {
            "HEADRACE_PGHOST": str(parts.get("host") or "127.0.0.1"),
            "HEADRACE_PGPORT": str(parts.get("port") or 5432),
            "HEADRACE_PGUSER": str(parts.get("user") or ""),
            "HEADRACE_PGPASSWORD": str(parts.get("password") or ""),
            "HEADRACE_PGDATABASE": str(parts.get("dbname") or ""),
            "DBT_PROFILES_DIR": str(project_path("dbt_project")),
            "DBT_TARGET_PATH": str(logs / "target"),
            "DBT_LOG_PATH": str(logs / "logs"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DO_NOT_TRACK": "1",
        }

    def _make_reader(self, connection: psycopg.Connection[Any]) -> None:
        password = embedded_postgres(self.settings).password(READER)
        exists = connection.execute(
            "select 1 from pg_roles where rolname = %s", [READER]
        ).fetchone()
        if not exists:
            statement = psycopg.sql.SQL("create role {} login password {}").format(
                psycopg.sql.Identifier(READER), psycopg.sql.Literal(password)
            )
            connection.execute(statement)

    def _apply_sql(self, connection: psycopg.Connection[Any], force: bool) -> None:
        files = sorted((project_path("sql") / "postgres").glob("*.sql"))
        digest = _digest([*files, *sorted(project_path("sql").glob("*.csv"))])
        if not force and self._deployed(connection, "sql") == digest:
            return
        for file in files:
            try:
                with connection.transaction():
                    connection.execute(file.read_text())
            except psycopg.Error as error:
                raise EngineError(f"{file.name}: {error}") from None
        with connection.transaction():
            self._seed(connection)
        self._record(connection, "sql", digest)

    def _seed(self, connection: psycopg.Connection[Any]) -> None:
        """Bring the policies that exist up to date; what was set by people stays."""
        for row in _seeds("policies"):
            connection.execute(
                """
                insert into control.policy_kinds (policy, kind, default_value, description)
                values (%(policy)s, %(kind)s, %(default_value)s, %(description)s)
                on conflict (policy) do update set
                    kind = excluded.kind,
                    default_value = excluded.default_value,
                    description = excluded.description
                """,
                row,
            )
            connection.execute(
                """
                insert into control.policies (model, policy, value)
                values ('*', %(policy)s, %(default_value)s)
                on conflict (model, policy) do nothing
                """,
                row,
            )
        for row in _seeds("label_policies"):
            connection.execute(
                """
                insert into control.label_policies (model, kind, wins, priority, weight)
                values ('*', %(kind)s, %(wins)s, %(priority)s, %(weight)s)
                on conflict (model, kind) do nothing
                """,
                row,
            )

    def _apply_dbt(self, connection: psycopg.Connection[Any], force: bool, echo: bool) -> None:
        project = project_path("dbt_project")
        files = [
            path
            for folder in ("models", "macros", "seeds")
            for path in sorted((project / folder).rglob("*"))
            if path.is_file()
        ]
        digest = _digest([project / "dbt_project.yml", *files])
        if not force and self._deployed(connection, "dbt") == digest:
            return
        self.dbt("run", "--quiet", echo=echo)
        self._record(connection, "dbt", digest)

    def _deployed(self, connection: psycopg.Connection[Any], name: str) -> str | None:
        known = connection.execute("select to_regclass('control.deployed')").fetchone()
        if known is None or known[0] is None:
            return None
        row = connection.execute(
            "select sha256 from control.deployed where name = %s", [name]
        ).fetchone()
        return row[0] if row else None

    def _record(self, connection: psycopg.Connection[Any], name: str, digest: str) -> None:
        connection.execute(
            """
            insert into control.deployed (name, sha256) values (%s, %s)
            on conflict (name) do update
            set sha256 = excluded.sha256, deployed_at = clock_timestamp()
            """,
            [name, digest],
        )


def embedded_postgres(settings: Settings) -> EmbeddedPostgres:
    """Return the embedded server of these settings (running or not)."""
    return EmbeddedPostgres(settings.home / "postgres", settings.postgres_port)


@contextmanager
def open_engine(settings: Settings, *, migrate: bool = True) -> Iterator[Engine]:
    """Reach the database inside a `with` block: the embedded one, or that of HEADRACE_DSN.

    Raises:
        EngineError: it cannot be started or reached.
    """
    if settings.dsn:
        engine = Engine(settings.dsn, settings)
        engine.connect().close()
        if migrate:
            engine.migrate()
        yield engine
        return
    with embedded_postgres(settings).running() as server:
        engine = Engine(server.dsn, settings)
        if migrate:
            engine.migrate()
        yield engine


def _seeds(name: str) -> list[dict[str, str]]:
    """Return the rows of a file of `sql/` by column."""
    with (project_path("sql") / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()

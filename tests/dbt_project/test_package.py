"""The project as a package in a project of somebody else, whose role may only read the marts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from headrace.engine import Engine
from headrace.events.log import EventLog
from headrace.settings import project_path
from tests.support.minutely import lives, story
from tests.support.stored import pane_oids
from tests.support.streams import send

PROFILE = """\
sales:
  target: ci
  outputs:
    ci:
      type: postgres
      host: "{host}"
      port: {port}
      user: sales
      password: secret
      dbname: {dbname}
      schema: sales
      threads: 2
"""
FILES = {
    "dbt_project.yml": "name: sales\nversion: '1.0.0'\nprofile: sales\nmodel-paths: [models]\n",
    "packages.yml": f"packages:\n  - local: {project_path('dbt_project').resolve()}\n",
    "models/quality.sql": "select * from {{ ref('headrace', 'model_performance') }}\n",
    "models/quality.yml": (
        "models: [{name: quality, columns: [{name: model, data_tests: [not_null]}]}]\n"
    ),
}


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[Path]:
    parts = conninfo_to_dict(engine.dsn)
    for name, text in {**FILES, "profiles.yml": PROFILE.format(**parts)}.items():
        (tmp_path / "sales" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sales" / name).write_text(text)
    with engine.connect() as connection:
        connection.execute("create role sales login password 'secret' in role headrace_reader")
        connection.execute("create schema sales authorization sales")
        yield tmp_path / "sales"
        connection.execute("drop schema sales cascade")
        connection.execute("drop role sales")


def dbt(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "dbt"), *arguments],
        cwd=project, capture_output=True, text=True, check=False,
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith("DBT_")},
            "DBT_PROFILES_DIR": str(project), "DO_NOT_TRACK": "1", "DBT_USE_COLORS": "false",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_a_stranger_needs_no_rights_but_to_read(engine: Engine, project: Path) -> None:
    with EventLog(engine) as log:
        send(log, lives() + story(0, 100))
    panes, marts = pane_oids(engine), mart_oids(engine)
    dbt(project, "deps")
    said = dbt(project, "build")
    assert "WARN=0 ERROR=0" in said and "unique_key" not in said
    assert (pane_oids(engine), mart_oids(engine)) == (panes, marts)
    with psycopg.connect(engine.dsn) as connection:
        counts = connection.execute(
            "select (select count(*) from sales.quality),"
            " (select count(*) from headrace.model_performance)"
        ).fetchone()
    assert counts is not None and counts[0] == counts[1] > 0


def mart_oids(engine: Engine) -> list[dict[str, object]]:
    return engine.rows(
        "select relname, oid::bigint from pg_class "
        "where relnamespace = 'headrace'::regnamespace order by relname"
    )

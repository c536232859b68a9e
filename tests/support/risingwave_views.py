"""The views as dbt compiles them for RisingWave, and their rows compared with another engine's."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import yaml  # type: ignore[import-untyped]
from psycopg import sql
from psycopg.rows import dict_row

from headrace.deploy import dbt
from headrace.engine import Engine
from headrace.settings import Settings, project_path
from tests.support.risingwave_sql_on_postgres import apart, otherwise

# Tolerance of doubles that were added in another order.
RELATIVE, ABSOLUTE = 1e-9, 1e-9
# Columns with the time of ingest, which differs between engines.
TAKEN_IN = frozenset({"ingested_at", "last_ingested_at", "first_new_label_at", "published_at"})
# Times that are computed from doubles.
COMPUTED = frozenset({"crosses_at"})
SLACK = timedelta(seconds=1)
# Marts that measure the engine itself, and the one whose value each engine finds in its own way.
OF_THE_ENGINE = frozenset({"feedback_loop_latency", "ingest_lag", "ingest_horizon"})
ITS_OWN = frozenset({"ingest_horizon"})


class View(NamedTuple):
    """One model of dbt: its name, schema, the SELECT that dbt compiled, and whether it is stored.

    A stored one is a materialized view on RisingWave, any other a plain one.
    """

    name: str
    schema: str
    select: str
    stored: bool


def compile_all(target: Path) -> None:
    """Have dbt compile all models for RisingWave, offline, into a target folder."""
    with tempfile.TemporaryDirectory() as home:
        nowhere = Engine("host=127.0.0.1 port=1 dbname=dev user=root", Settings(home=Path(home)))
        dbt(nowhere, "compile", "--target", "risingwave", "--no-populate-cache", "--no-introspect")
        shutil.copytree(Path(home) / "dbt" / "target", target)


def compiled(target: Path) -> list[View]:
    """Return all models as compiled for RisingWave, in the order of their dependencies."""
    manifest = json.loads((target / "manifest.json").read_text())
    nodes = {
        name: node
        for name, node in manifest["nodes"].items()
        if node["resource_type"] == "model" and node["config"]["materialized"] != "ephemeral"
    }
    order = TopologicalSorter(
        {name: set(node["depends_on"]["nodes"]) & set(nodes) for name, node in nodes.items()}
    )
    return [_view(nodes[name]) for name in order.static_order()]


def _view(node: dict[str, Any]) -> View:
    config = node["config"]
    stored = config["materialized"] == "pane" or bool(config.get("stored"))
    select = node["compiled_code"].replace('"dev".', "")
    return View(node["name"], node["schema"], select, stored)


def create(connection: psycopg.Connection[Any], views: Iterable[View]) -> None:
    """Create the views as materialized views of PostgreSQL, which `refresh` recomputes."""
    for view in views:
        connection.execute(
            sql.SQL("create schema if not exists {}").format(sql.Identifier(view.schema))
        )
        select = apart(otherwise(view.select))
        connection.execute(
            f'create materialized view "{view.schema}"."{view.name}" as {select}'.encode()
        )


def refresh(connection: psycopg.Connection[Any], views: Iterable[View]) -> None:
    for view in views:
        connection.execute(
            sql.SQL("refresh materialized view {}").format(sql.Identifier(view.schema, view.name))
        )


def marts() -> dict[str, list[str]]:
    """The marts, each with its key."""
    found = {}
    for path in sorted(project_path("dbt_project").glob("models/marts/*.yml")):
        for model in yaml.safe_load(path.read_text()).get("models", []):
            keys = [
                test["unique_key"]["arguments"]["columns"]
                for test in model["data_tests"]
                if isinstance(test, dict) and "unique_key" in test
            ]
            found[model["name"]] = keys[0]
    return found


def rows(connection: psycopg.Connection[Any], mart: str) -> list[dict[str, Any]]:
    """Return the rows of a mart, their times in UTC whatever the session's time zone is."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            sql.SQL("select * from {}").format(sql.Identifier("headrace", mart))
        ).fetchall()
    return [
        {
            k: v.astimezone(UTC)
            if isinstance(v, datetime)
            else json.loads(v)  # pgvector's text of a vector is JSON
            if k == "embedding" and isinstance(v, str)
            else v
            for k, v in row.items()
        }
        for row in found
    ]


def differences(
    mart: str,
    key: Sequence[str],
    left: list[dict[str, Any]],
    right: list[dict[str, Any]],
    ignored: Collection[str] = (),
) -> list[str]:
    """Return the differences of one mart between two engines."""
    here, there = (
        {tuple(str(row[name]) for name in key): row for row in side} for side in (left, right)
    )
    found = [f"{mart} {at}: only here" for at in here.keys() - there.keys()]
    found += [f"{mart} {at}: only there" for at in there.keys() - here.keys()]
    for at in here.keys() & there.keys():
        one, other = here[at], there[at]
        found += [f"{mart} {at}: only one has {name}" for name in one.keys() ^ other.keys()]
        found += [
            f"{mart}.{name} {at}: {one[name]!r} != {other[name]!r}"
            for name in one.keys() & other.keys()
            if name not in ignored
            and not same(one[name], other[name])
            and not (name in COMPUTED and near(one[name], other[name]))
        ]
    return found


def near(left: datetime | None, right: datetime | None) -> bool:
    return left is not None and right is not None and abs(left - right) <= SLACK


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal, doubles up to their rounding."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if left is None or right is None or isinstance(left, (str, bool)):
        return bool(left == right)
    try:
        one, other = float(left), float(right)
    except (TypeError, ValueError):
        return bool(left == right)
    return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE) or (
        math.isnan(one) and math.isnan(other)
    )

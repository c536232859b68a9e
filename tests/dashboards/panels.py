"""The panels of the dashboard, and what their SQL returns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg

from headrace.dashboards import load
from headrace.dashboards.macros import interpolate, key_of
from headrace.dashboards.reading import Panel
from headrace.engine import Engine
from tests.dashboards.life import MODEL, PREDICTIONS, START, STEP

DASHBOARD = load()
PANELS: list[Panel] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric"}
END = START + PREDICTIONS * STEP + timedelta(days=1)


def run(reader: Engine, sql: str, **variables: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the type of every column, and the rows."""
    values = {"model": key_of(MODEL), "window": "1 day", "min_labels": "20", **variables}
    with reader.connect() as connection:
        cursor = connection.execute(interpolate(sql, values, START, END))
        columns = {
            column.name: psycopg.adapters.types[column.type_code].name
            for column in cursor.description or ()
        }
        return columns, [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

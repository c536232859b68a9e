"""Grafana's published front-end code reads the dashboard as the page does, and its types fit.

Needs npm and its registry, so no run of all tests collects this. By itself:

    python -m pytest tests/dashboards/check_grafana.py
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from headrace.dashboards.fields import field_of, number_of, show
from headrace.dashboards.reading import Panel, Result, lines_of, reduce, shown
from headrace.engine import Engine
from tests.dashboards.panels import DASHBOARD, NUMBERS, PANELS, run

HERE = Path(__file__).parent / "grafana"
VERSIONS = ("11.6.0", "13.2.3")
TOOLS = ("jsdom@26.1.0", "typescript@5.9.3")


def installed(folder: Path, version: str) -> Path:
    packages = [f"@grafana/data@{version}", f"@grafana/schema@{version}", *TOOLS]
    npm = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    subprocess.run([*npm, *packages], check=True, capture_output=True, text=True)
    for file in HERE.iterdir():
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session", params=VERSIONS)
def grafana(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("grafana"), request.param)


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("schema"), VERSIONS[-1])


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("window", ["1 day", "30 days"])
def test_grafana_reads_panels_as_the_page_does(grafana: Path, reader: Engine, window: str) -> None:
    results = []
    for panel in PANELS:
        types, rows = run(reader, panel["targets"][0]["rawSql"], window=window)
        results.append(framed(panel, types, rows))
    asked = [
        {
            "panel": panel,
            "columns": [{"name": name, "kind": kind} for name, kind in kinds],
            "rows": [list(map(plain, row)) for row in result.rows],
        }
        for panel, (kinds, result) in zip(PANELS, results, strict=True)
    ]
    output = subprocess.run(
        ["node", "read.cjs"], cwd=grafana, input=json.dumps(asked), check=True,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    for panel, (kinds, result), theirs in zip(PANELS, results, json.loads(output), strict=True):
        title = panel["title"]
        if "reduceOptions" in panel["options"]:
            ours = [[each.name, plain(each.value)] for each in shown(panel, result)]
            texts = [show(each.value, each.field) for each in shown(panel, result)]
            same = [
                [name, text if value is None else value]
                for (name, value), text in zip(ours, texts, strict=True)
            ]
            assert theirs["values"] == same, title
        if panel["type"] == "timeseries":
            calcs = panel["options"]["legend"]["calcs"]
            for name, points in lines_of(result).items():
                values = [value for _, value in points]
                for calc, value in zip(calcs, theirs["legend"][name], strict=True):
                    mine = reduce(calc, values)
                    assert (mine is None) == (value is None), (title, name, calc)
                    assert mine is None or math.isclose(mine, value), (title, name, calc)
        if panel["type"] == "table":
            for place, (name, _) in enumerate(kinds):
                for row, text in zip(result.rows, theirs["texts"][place], strict=True):
                    if row[place] is None or isinstance(row[place], str):
                        assert show(row[place], field_of(panel, name)) == text, (title, name)


def framed(
    panel: Panel, types: dict[str, str], rows: list[dict[str, Any]]
) -> tuple[list[tuple[str, str]], Result]:
    """Return the columns and rows that the data source's server gives to the front end: of a long
    result one column a line."""
    result = Result(list(types), [list(row.values()) for row in rows])
    if panel["type"] != "timeseries" or "metric" not in types:
        return [(name, kind_of(kind)) for name, kind in types.items()], result
    lines = lines_of(result)
    times = sorted({row["time"] for row in rows})
    wide = Result(
        ["time", *lines],
        [[at, *(dict(points)[at] for points in lines.values())] for at in times],
    )
    return [("time", "time"), *((name, "number") for name in lines)], wide


def kind_of(kind: str) -> str:
    return {"timestamptz": "time", "bool": "bool"}.get(
        kind, "number" if kind in NUMBERS else "text"
    )


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    return number_of(value) if isinstance(value, int | float | Decimal) else value


def complaints(folder: Path, dashboard: dict[str, Any]) -> str:
    text = json.dumps(dashboard)
    (folder / "check.ts").write_text(
        f"import type {{ Checked }} from './types';\nexport const dashboard: Checked = {text};\n"
    )
    checked = subprocess.run(
        ["npx", "--no-install", "tsc", "--noEmit", "--strict", "--skipLibCheck",
         "--moduleResolution", "bundler", "--module", "esnext", "check.ts"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return checked.stdout + checked.stderr


def test_dashboard_fits_the_published_types(schema: Path) -> None:
    assert complaints(schema, DASHBOARD) == ""


def old_wrap(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        if panel["type"] == "table":
            panel["fieldConfig"]["defaults"]["custom"]["cellOptions"]["wrapText"] = True


def old_annotation(dashboard: dict[str, Any]) -> None:
    del dashboard["annotations"]["list"][0]["target"]["limit"]


def unknown_option(dashboard: dict[str, Any]) -> None:
    stat = next(panel for panel in dashboard["panels"] if panel["type"] == "stat")
    stat["options"]["colour"] = "value"


@pytest.mark.parametrize("change", [old_wrap, old_annotation, unknown_option])
def test_types_refuse_what_is_no_longer_so(
    schema: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    dashboard = copy.deepcopy(DASHBOARD)
    change(dashboard)
    assert "error TS" in complaints(schema, dashboard)

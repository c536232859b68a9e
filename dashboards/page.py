"""The panels of ``loop.json`` as one HTML file, for readers without Grafana."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import psycopg

from headrace.dashboards import FOLDER, load
from headrace.dashboards.draw import Canvas, draw
from headrace.dashboards.macros import interpolate, key_of
from headrace.dashboards.reading import Panel, Result
from headrace.engine import Engine
from headrace.errors import ModelError
from headrace.files import write_whole

# (longest span of the events, matching length of windows, how far they reach past the end)
_WINDOWS = (
    (timedelta(hours=6), "1 minute", timedelta(minutes=1)),
    (timedelta(days=4), "1 hour", timedelta(hours=1)),
    (timedelta(days=60), "1 day", timedelta(days=1)),
    (timedelta.max, "30 days", timedelta(days=1)),
)
_CLOCK = """
select model, first_event_time, event_clock
from headrace.model_clock
where first_event_time is not null
order by last_ingested_at desc nulls last, model
"""

Run = Callable[[str], Result]


def render(engine: Engine, model: str | None, path: Path, every_s: int | None = None) -> Path:
    """Write the page of `model` (default: the most recently active one) to `path`; return it.

    The time range covers all events of the model, by their own clock. Reads as headrace_reader
    where its password is known. The file needs no network and runs no script. With `every_s` a
    browser that shows it loads it again that often.

    Raises:
        ModelError: `model` has no events.
        EngineError: the database cannot be reached.
    """
    reader = Engine(engine.reader_dsn(), engine.settings)
    with reader.connect() as connection, reader.dialect.snapshot(connection):
        clocks = {row[0]: row[1:] for row in connection.execute(_CLOCK)}
        if model is None:
            model = next(iter(clocks), "")
        elif model not in clocks:
            known = ", ".join(clocks) or "none yet"
            raise ModelError(f"{model}: no events of this model have come; there are: {known}")
        first, last = clocks.get(model, (datetime.now(UTC) - timedelta(days=1), datetime.now(UTC)))
        text = _page(connection, model, first, last, every_s)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text, 0o644)
    return path


def _page(
    connection: psycopg.Connection[Any],
    model: str,
    first: datetime,
    last: datetime,
    every_s: int | None,
) -> str:
    dashboard = load()
    _, window, ahead = next(entry for entry in _WINDOWS if last - first <= entry[0])
    start, end = first, last + ahead
    variables = {
        item["name"]: item["current"].get("value", "") for item in dashboard["templating"]["list"]
    }
    variables |= {"model": key_of(model), "window": window}

    def run(sql: str) -> Result:
        cursor = connection.execute(interpolate(sql, variables, start, end))
        return Result([column.name for column in cursor.description or ()], cursor.fetchall())

    marks = [
        (row[0], str(row[1]))
        for annotation in dashboard["annotations"]["list"]
        for row in run(annotation["target"]["rawSql"]).rows
    ]
    canvas = Canvas(start, end, marks)
    facts = {
        "model": model or "none yet",
        "events": f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC",
        "windows": f"{window}, with at least {variables['min_labels']} labels for quality",
        "drawn": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
    panels = "\n".join(_panel(panel, run, canvas, facts) for panel in dashboard["panels"])
    title = escape(dashboard["title"])
    again = f'<meta http-equiv="refresh" content="{every_s}">\n' if every_s else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{again}<title>{title} · {escape(model)}</title>\n"
        f"<style>\n{(FOLDER / 'page.css').read_text('utf-8')}</style>\n</head>\n<body>\n"
        f"<header><h1>{title}</h1><p>{escape(dashboard['description'])}</p></header>\n"
        f"<main>\n{panels}\n</main>\n</body>\n</html>\n"
    )


def _panel(panel: Panel, run: Run, canvas: Canvas, facts: dict[str, str]) -> str:
    place = panel["gridPos"]
    style = f"--x:{place['x'] + 1};--y:{place['y'] + 1};--w:{place['w']};--h:{place['h']}"
    if panel["type"] == "row":
        return f'<h2 style="{style}">{escape(panel["title"])}</h2>'
    if _is_navigation(panel):
        # Its links set Grafana's time range, which a page lacks: describe the page instead.
        title, about = "This page", ""
        body = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
        body = f"<dl>{body}</dl>"
    else:
        title = panel["title"]
        about = f"<details><summary>?</summary><p>{escape(panel['description'])}</p></details>"
        body = draw(panel, run(panel["targets"][0]["rawSql"]), canvas)
    return (
        f'<section class="{panel["type"]}" id="panel-{panel["id"]}" style="{style}">'
        f"<h3>{escape(title)}</h3>{about}{body}</section>"
    )


def _is_navigation(panel: Panel) -> bool:
    return any(
        item["id"] == "links"
        for override in panel["fieldConfig"]["overrides"]
        for item in override["properties"]
    )

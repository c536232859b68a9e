"""Commands that show something: status, doctor, dashboards, settings."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.cli.command import as_json, command, on_engine
from headrace.operate.printing import print_json, print_table
from headrace.settings import Settings, describe

if TYPE_CHECKING:
    from headrace.engine import Engine


@command(example="headrace status --json")
@as_json
def status(settings: Settings, as_json: bool) -> None:
    """Show what is running, and the loop of each model."""
    from headrace.operate.status import print_status, status_of

    report = status_of(settings)
    if as_json:
        print_json(report)
    else:
        print_status(settings, report)


@command(example="headrace doctor")
@as_json
def doctor(settings: Settings, as_json: bool) -> int:
    """Show what is wrong with a deployment and how to fix it."""
    from headrace.operate.doctor.examine import examine

    found = []
    for each in examine(settings):
        found.append(each)
        if not as_json:
            print(f"{each.level:8} {each.check:10} {each.says}", end="")
            print(f"; to do: {each.do}" if each.do else "", flush=True)
    if as_json:
        print_json([asdict(each) for each in found])
    return int(any(each.level == "failed" for each in found))


@command(
    example="headrace dashboards page --model churn --out loop.html",
    needs=("engine", "dashboards"),
)
@click.argument("what", type=click.Choice(["push", "page"]))
@click.option("--model", help="Of the page; default: the one with the latest event.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("loop.html"), help="File of the page."
)
@click.option(
    "--every",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Draw the page again and again until Ctrl-C; a browser that shows it follows.",
)
@on_engine
def dashboards(engine: Engine, what: str, model: str | None, out: Path, every: int | None) -> None:
    """Push the dashboards to Grafana, or draw them as a page."""
    if what == "push":
        from headrace.dashboards.push import push

        pushed = push(engine.settings, engine)
        print(pushed.url, *pushed.notes, sep="\n")
    else:
        from headrace.dashboards.page import render
        from headrace.machine import stop_event

        stop = stop_event()
        print(render(engine, model, out, every), flush=True)
        while every and not stop.wait(every):
            render(engine, model, out, every)


@command("settings", example="headrace settings --json", needs=())
@as_json
def settings_(_: Settings, as_json: bool) -> None:
    """List the settings."""
    rows = [dict(zip(("variable", "default", "meaning"), row, strict=True)) for row in describe()]
    (print_json if as_json else print_table)(rows)

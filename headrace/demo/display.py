"""The demo on a terminal: the stream, the live metrics of the model, its versions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from headrace.demo.stream import MODEL
from headrace.demo.summary import CONTESTANTS, Summary
from headrace.engine import Engine

REFRESH_S = 1.0
LINE_EVERY_S = 10.0

_NOW = """
select
    clock.event_clock,
    clock.inferences,
    clock.feedback,
    trigger.model_version,
    trigger.recent_auc,
    trigger.baseline_auc,
    trigger.new_labels,
    trigger.psi,
    trigger.reason,
    trigger.held_back_by
from headrace.model_clock as clock
inner join headrace.retrain_trigger as trigger using (model)
where clock.model = %s
"""

_VERSIONS = """
select model_version, status, trained_at, reason
from headrace.model_versions
where model = %s
order by published_at nulls last, trained_at
"""


class Display:
    """Shows the state of the loop about once a second; prints plain lines without a terminal."""

    def __init__(self, engine: Engine, total: int, console: Console) -> None:
        self.console = console
        self.doing = "starting"
        self._engine = engine
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} reports"),
            TimeElapsedColumn(),
        )
        self._task: TaskID = self._progress.add_task("replay", total=total)
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._shown_at = 0.0
        self._seen: dict[str, str] = {}

    @contextmanager
    def shown(self) -> Iterator[Display]:
        """Show it inside the block."""
        if not self.console.is_terminal:
            yield self
            return
        with self._live:
            yield self

    def update(self, sent: int, *, force: bool = False) -> None:
        """Show the progress of the stream; reads the views at most once a second."""
        self._progress.update(self._task, completed=sent)
        every = REFRESH_S if self.console.is_terminal else LINE_EVERY_S
        if not force and time.monotonic() - self._shown_at < every:
            return
        self._shown_at = time.monotonic()
        now = self._engine.rows(_NOW, [MODEL])
        versions = self._engine.rows(_VERSIONS, [MODEL])
        self._print_new(versions)
        if self.console.is_terminal:
            self._live.update(self._picture(now, versions), refresh=True)
        elif now:
            self.console.print(self._line(now[0], sent), highlight=False, soft_wrap=True)

    def _print_new(self, versions: list[dict[str, Any]]) -> None:
        """Print each version once, above the live display, after its gate."""
        for row in versions:
            name = row["model_version"]
            if name not in self._seen:
                self._seen[name] = row["status"]
                passed = row["status"] != "rejected"
                mark = "[green]published[/]" if passed else "[yellow]rejected[/]"
                self.console.print(
                    f"{_day(row['trained_at'])}  {name} {mark}: {row['reason']}",
                    highlight=False,
                    soft_wrap=True,
                )

    def _line(self, now: dict[str, Any], sent: int) -> str:
        return (
            f"{_day(now['event_clock'])}  {sent:,} reports, {now['feedback']:,} decisions, "
            f"serving {now['model_version'] or 'nothing yet'}, "
            f"auc {_number(now['recent_auc'])}, {now['new_labels']:,} new labels; {self.doing}"
        )

    def _picture(self, now: list[dict[str, Any]], versions: list[dict[str, Any]]) -> RenderableType:
        table = Table.grid(padding=(0, 3))
        table.add_column(style="dim")
        table.add_column()
        if now:
            row = now[0]
            table.add_row("event time", f"{row['event_clock']:%Y-%m-%d %H:%M} UTC")
            table.add_row("serving", row["model_version"] or "nothing yet")
            table.add_row(
                "AUC, last 45 days",
                f"{_number(row['recent_auc'])}  (at promotion {_number(row['baseline_auc'])})",
            )
            table.add_row("largest drift", f"PSI {_number(row['psi'])}")
            table.add_row("labels since the last run", f"{row['new_labels']:,}")
            why = row["reason"] or "nothing is due"
            if row["held_back_by"]:
                why += f" (held back: {row['held_back_by']})"
            table.add_row("trigger", why)
        table.add_row("now", self.doing)
        published = [row["model_version"] for row in versions if row["status"] != "rejected"]
        table.add_row("versions", " → ".join(published) or "none yet")
        return Group(self._progress, Text(), table)


def _day(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d}" if time else " " * 10


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def show_summary(console: Console, summary: Summary) -> None:
    """Print the closing tables."""
    table = Table(
        title=f"The same {summary.evaluated:,} reports, each predicted before its label was known",
        title_justify="left",
    )
    table.add_column("")
    for name in ("AUC", "F1 (total)", "log loss"):
        table.add_column(name, justify="right")
    for key, title in CONTESTANTS.items():
        score = summary.scores[key]
        style = "bold" if key == "loop" else ""
        table.add_row(
            title, f"{score.auc:.3f}", f"{score.f1:.3f}", f"{score.log_loss:.3f}", style=style
        )
    console.print(table)
    stages = Table(title="From feedback to a better model: median seconds", title_justify="left")
    for stage in summary.latency_s:
        stages.add_column(stage, justify="right")
    stages.add_row(*(f"{value:.2f}" for value in summary.latency_s.values()))
    console.print(stages)

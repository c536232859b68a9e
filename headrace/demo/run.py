"""`headrace demo`: start everything, replay the stream, compare, and show where to look further."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from headrace.demo.display import Display, show_summary
from headrace.demo.replay import Replay, ticks
from headrace.demo.stream import MODEL, POSITIVE, reports, steps
from headrace.demo.summary import Summary
from headrace.deploy import migrate
from headrace.engine import Engine, open_engine
from headrace.engine.embedded import embedded_postgres
from headrace.errors import EngineError
from headrace.machine import free_port, running
from headrace.operate.printing import Steps
from headrace.operate.processes import Child, children, wait_until_ready
from headrace.settings import Settings

POLICIES = {
    "learn": "on",
    "positive_label": POSITIVE,
    "metric_window": "45 days",
    "drift_window": "30 days",
    "cooldown": "14 days",
}
MIN_NEW_LABELS = 2_000
# `--fast` sends every fifth report, so fewer labels make a retrain due.
FAST_SHARE = 5
FAST_MIN_NEW_LABELS = 600
POLL_S = 0.5
LOOK_S = 0.05


def run_demo(settings: Settings, console: Console, *, fast: bool = False) -> Summary:
    """Run the demo in a home of its own, ``demo`` inside the home of `settings`.

    An earlier demo there is removed; nothing else is touched. Progress goes to `console`.

    Raises:
        EngineError: a process does not start, or exits early.
    """
    began = time.monotonic()
    home = settings.home / "demo"
    _clear(home)
    port = free_port()
    own = replace(
        settings, home=home, postgres_port=0, port=port,
        engine="postgres", dsn="", registry_dsn="", kafka="", artifacts="",
    )  # fmt: skip
    environment = {
        "HEADRACE_PORT": str(port),
        "HEADRACE_POLL_S": str(POLL_S),
        "HEADRACE_POSTGRES_PORT": "0",
        "HEADRACE_ENGINE": "postgres",
        **{f"HEADRACE_{name}": "" for name in ("DSN", "REGISTRY_DSN", "KAFKA", "ARTIFACTS")},
    }
    say = Steps(console.file)
    with open_engine(own, say=say) as engine:
        with children(own, {"gateway": environment, "trainer": environment}) as (gateway, trainer):
            migrate(engine, say=say)
            _set_policies(engine, fast)
            console.print(f"turning training of {MODEL} on, as `headrace train {MODEL}` does …")
            console.print("starting the gateway and the trainer …")
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(url, gateway)
            _wait_for_trainer(own, trainer)
            _replay(engine, url, [gateway, trainer], console, fast)
        console.print("comparing with the frozen model and with TF-IDF …")
        # scikit-learn, pandas and torch take seconds to import; nothing above needs them.
        from headrace.demo.report import draw, summarize

        summary = summarize(engine, began)
        summary.write(home / "summary.json")
        draw(summary, home / "curves.png")
    return summary


def _clear(home: Path) -> None:
    if (home / "postgres").exists():
        embedded_postgres(Settings(home=home)).stop()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)


def _set_policies(engine: Engine, fast: bool) -> None:
    least = FAST_MIN_NEW_LABELS if fast else MIN_NEW_LABELS
    policies = {**POLICIES, "min_new_labels": str(least)}
    with engine.connect() as connection:
        for policy, value in policies.items():
            connection.execute(
                "insert into control.policies (model, policy, value) values (%s, %s, %s)",
                [MODEL, policy, value],
            )


def _wait_for_trainer(settings: Settings, trainer: Child) -> None:
    """Wait until the trainer has written its run file; loading takes some seconds."""
    deadline = time.monotonic() + 120
    while "trainer" not in running(settings):
        trainer.check()
        if time.monotonic() > deadline:
            raise EngineError(f"the trainer is not ready; see {trainer.log}")
        time.sleep(LOOK_S)


def _replay(engine: Engine, url: str, parts: list[Child], console: Console, fast: bool) -> None:
    rows = reports()[:: FAST_SHARE if fast else 1]
    display = Display(engine, len(rows), console)
    trainer = parts[1]
    with engine.connect() as connection, display.shown():
        replay = Replay(url, MODEL)

        def hold() -> None:
            """Pause while a version is due, trained or loaded: this takes almost no event time."""
            while True:
                for part in parts:
                    part.check()
                busy = _is_training(connection) or _is_due(connection)
                if not busy and _is_served(connection, replay):
                    display.doing = "replaying"
                    return
                display.doing = trainer.tail() if busy else "loading the new version in the gateway"
                display.update(replay.predicted + replay.logged)
                time.sleep(LOOK_S)

        try:
            for tick in ticks(steps(rows)):
                hold()
                replay.send(tick)
                display.update(replay.predicted + replay.logged)
            hold()
            display.update(len(rows), force=True)
        finally:
            replay.close()


def _is_training(connection: Any) -> bool:
    row = connection.execute(
        "select exists (select 1 from control.claims where model = %s and finished_at is null)",
        [MODEL],
    ).fetchone()
    return bool(row[0])


def _is_due(connection: Any) -> bool:
    """Whether a trigger waits for the trainer, whose next look a quick replay would outrun."""
    row = connection.execute(
        """
        select exists (
            select 1 from headrace.retrain_trigger as due
            where
                due.model = %s and due.due
                and not exists (select 1 from control.claims where trigger_id = due.trigger_id)
        )
        """,
        [MODEL],
    ).fetchone()
    return bool(row[0])


def _is_served(connection: Any, replay: Replay) -> bool:
    rows = connection.execute(
        "select model_version from headrace.serving_plan where model = %s", [MODEL]
    ).fetchall()
    wanted = {row[0] for row in rows}
    return wanted == {row["model_version"] for row in replay.plan() if row["loaded"]}


def tell(summary: Summary, settings: Settings, console: Console) -> None:
    """Print the final tables and where to look further."""
    show_summary(console, summary)
    home = settings.home / "demo"
    console.print(f"curves   {home / 'curves.png'}", highlight=False)
    console.print(f"numbers  {home / 'summary.json'}", highlight=False)
    console.print("\nLook further:", style="bold")
    for query in (
        "select model_version, status, trained_at, reason from headrace.model_versions",
        "select * from headrace.feature_drift",
        "select window_end, model_version, labeled, auc, f1 from headrace.model_performance "
        "where window_name = '30 days' order by 1",
        "select model_version, stage, seconds from headrace.feedback_loop_latency order by place",
    ):
        console.print(
            f'  .venv/bin/headrace --home {home} psql -c "{query}"',
            highlight=False,
            soft_wrap=True,
        )

"""What runs on this machine, and how the loop of each model is."""

from __future__ import annotations

from typing import Any

from headrace.embedded import embedded_postgres
from headrace.engine import Engine
from headrace.errors import EngineError
from headrace.printing import print_table
from headrace.processes import running
from headrace.settings import Settings

VIEW = "headrace.retrain_trigger"


def status_of(settings: Settings) -> dict[str, Any]:
    """Return the engine by its name, the processes, and a row of the trigger view for each model.

    Starts nothing; a database that is down, or has no views yet, has no models.
    """
    embedded = embedded_postgres(settings)
    pid = None if settings.dsn else embedded.pid()
    report: dict[str, Any] = {
        settings.engine: {"running": False, "pid": pid},
        "processes": running(settings),
        "models": [],
    }
    if not settings.dsn and pid is None:
        return report
    engine = Engine(settings.dsn or embedded.dsn, settings)
    try:
        deployed = engine.has(VIEW)
    except EngineError:
        return report
    report[settings.engine]["running"] = True
    if deployed:
        report["models"] = engine.rows(
            "select model, model_version, due, reason, held_back_by, new_labels, recent_auc, "
            f"event_clock from {VIEW} order by model"
        )
    return report


def print_status(settings: Settings, report: dict[str, Any]) -> None:
    """Print the report for a person."""
    down = "cannot be reached" if settings.dsn else "is down (headrace up starts it)"
    print(f"{settings.engine:11}{'runs' if report[settings.engine]['running'] else down}")
    for name in ("gateway", "trainer"):
        facts = report["processes"].get(name)
        print(f"{name:11}{'runs, pid ' + str(facts['pid']) if facts else 'is down'}", end="")
        print(f", {facts['url']}" if facts and "url" in facts else "")
    print_table(report["models"])

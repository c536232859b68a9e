"""What is running on this machine, and the state of the loop for each model."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from psycopg.conninfo import conninfo_to_dict

from headrace.engine import DIALECTS, Engine
from headrace.engine.embedded import embedded_postgres
from headrace.errors import EngineError
from headrace.machine import running
from headrace.operate.printing import print_table
from headrace.settings import Settings

VIEW = "headrace.retrain_trigger"
_BEHIND = """
select
    case when count(*) = count(messages_behind) then sum(messages_behind)::bigint end
        as messages_behind,
    max(looked_at) as looked_at
from headrace.ingest_lag
where looked_at is not null
"""


def status_of(settings: Settings) -> dict[str, Any]:
    """Return what is running and the state of each model, without starting anything.

    Returns:
        The name of the engine: whether it is `running`, and the `pid` of the embedded one.
        `processes`: pid and facts of the other processes, by name.
        `reader`: while the engine runs, the addresses of `headrace_reader`, with its password;
        they are for the user's own tools, and allow reading only.
        `models`: a row of the trigger view for each, with its task and whether that was inferred;
        none if there is no database or view yet.
        `kafka`, if it is used: how many `messages_behind` the database is (None if unknown), and
        when the brokers were last asked (`looked_at`).
    """
    embedded = embedded_postgres(settings)
    pid = None if settings.dsn else embedded.pid()
    report: dict[str, Any] = {
        settings.engine: {"running": False, "pid": pid},
        "processes": running(settings),
        "reader": None,
        "models": [],
    }
    if settings.kafka:
        report["kafka"] = {"messages_behind": None, "looked_at": None}
    if not settings.dsn and pid is None:
        return report
    engine = Engine(settings.dsn or embedded.dsn, settings)
    try:
        deployed = engine.has(VIEW)
    except EngineError:
        return report
    report[settings.engine]["running"] = True
    if engine.knows_reader:
        report["reader"] = addresses(engine.reader_dsn(), encrypted=bool(settings.dsn))
    if deployed and settings.kafka:
        (report["kafka"],) = engine.rows(_BEHIND)
    if deployed:
        report["models"] = engine.rows(
            "select triggers.model, triggers.model_version, tasks.task, "
            "tasks.source as task_source, triggers.due, triggers.reason, "
            "triggers.held_back_by, triggers.new_labels, "
            f"triggers.recent_auc, triggers.event_clock from {VIEW} as triggers "
            "inner join headrace.model_tasks as tasks on triggers.model = tasks.model "
            "order by triggers.model"
        )
    return report


def addresses(dsn: str, *, encrypted: bool) -> dict[str, str]:
    """Return a connection string as a URL (for psql, Grafana, most tools) and for JDBC (DBeaver).

    The embedded server has no TLS, so without `encrypted` the clients are told to use none.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    user, password = parts.pop("user", ""), parts.pop("password", "")
    host, port = parts.pop("host", "127.0.0.1"), parts.pop("port", "5432")
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    address = f"{host}:{port}/{quote(parts.pop('dbname', user), safe='')}"
    mode = parts.get("sslmode", "" if encrypted else "disable")
    options = {"sslmode": mode} if mode else {}
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    separator = "?" if options else ""
    return {
        "url": f"postgresql://{login}@{address}{separator}{urlencode(options)}",
        "jdbc": f"jdbc:postgresql://{address}?"
        + urlencode({"user": user, "password": password, **options}),
    }


def print_status(settings: Settings, report: dict[str, Any]) -> None:
    """Print the report for a person."""
    down = "cannot be reached" if settings.dsn else "is down (start it with headrace up)"
    print(f"{settings.engine:11}{'runs' if report[settings.engine]['running'] else down}")
    dialect = DIALECTS[settings.engine]
    names = ["gateway", "trainer", "conductor"]
    names += ["embedder"] * dialect.has_vectors
    names += ["ingest"] * bool(settings.kafka and not dialect.reads_topics)
    for name in names:
        facts = report["processes"].get(name)
        print(f"{name:11}{'runs, pid ' + str(facts['pid']) if facts else 'is down'}", end="")
        print(f", {facts['url']}" if facts and "url" in facts else "")
    if settings.kafka:
        print(f"{'kafka':11}{_behind(**report['kafka'])}")
    if report["reader"]:
        print(f"{'reads':11}{report['reader']['url']}")
        print(f"{'':11}{report['reader']['jdbc']}")
    print_table(report["models"])


def _behind(messages_behind: int | None, looked_at: datetime | None) -> str:
    if messages_behind is None:
        when = f" since {looked_at:%Y-%m-%d %H:%M:%S} UTC" if looked_at else ""
        return f"messages behind: not known{when}; headrace doctor asks the brokers"
    return f"{messages_behind:,} messages behind"

"""What runs on this machine, and how the loop of each model is."""

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
    """Return the engine by its name, the processes, and a row of the trigger view for each model.

    Beside them, while the engine runs, the addresses of its reader with the password: they are for
    the user's own terminal and tools, and let nobody change anything. With Kafka, how many messages
    the database is behind, or None, and when the brokers were last asked. Starts nothing; a
    database that is down, or has no views yet, has no models.
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
            "select model, model_version, due, reason, held_back_by, new_labels, recent_auc, "
            f"event_clock from {VIEW} order by model"
        )
    return report


def addresses(dsn: str, *, encrypted: bool) -> dict[str, str]:
    """Return a connection string as a URL (psql, Grafana and most others) and as JDBC's (DBeaver).

    The embedded server speaks no TLS, which some clients have to be told.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    user, password = parts.pop("user", ""), parts.pop("password", "")
    host, port = parts.pop("host", "127.0.0.1"), parts.pop("port", "5432")
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    place = f"{host}:{port}/{quote(parts.pop('dbname', user), safe='')}"
    mode = parts.get("sslmode", "" if encrypted else "disable")
    options = {"sslmode": mode} if mode else {}
    login = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    question = "?" if options else ""
    return {
        "url": f"postgresql://{login}@{place}{question}{urlencode(options)}",
        "jdbc": f"jdbc:postgresql://{place}?"
        + urlencode({"user": user, "password": password, **options}),
    }


def print_status(settings: Settings, report: dict[str, Any]) -> None:
    """Print the report for a person."""
    down = "cannot be reached" if settings.dsn else "is down (headrace up starts it)"
    print(f"{settings.engine:11}{'runs' if report[settings.engine]['running'] else down}")
    ingests = settings.kafka and not DIALECTS[settings.engine].reads_topics
    for name in ("gateway", "trainer", *(("ingest",) if ingests else ())):
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
        return f"how far it is ahead is not known{when}; headrace doctor asks the brokers"
    return f"{messages_behind:,} messages behind"

"""Commands on the database: migrate, replay, psql, dbt."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from headrace.cli.command import PASS_ON, command, rest
from headrace.errors import SettingError
from headrace.operate.printing import Steps
from headrace.settings import Settings


@command(example="headrace migrate")
@click.option("--force", is_flag=True, help="Apply all SQL even if unchanged.")
def migrate(settings: Settings, force: bool) -> None:
    """Bring tables and views up to this version."""
    from headrace import deploy
    from headrace.engine import open_engine

    say = Steps(sys.stdout)
    with open_engine(settings, say=say) as engine:
        deploy.migrate(engine, force=force, say=say)
    print("up to date")


@command(example="headrace replay --from 2026-01-31T00:00:00Z", needs=("engine", "kafka"))
@click.option(
    "--from", "since", default="earliest", metavar="TIME",
    help="Time of the first message to read (ISO 8601), or earliest.",
)  # fmt: skip
def replay(settings: Settings, since: str) -> None:
    """Read the topics of Kafka again. Stored events stay as they are."""
    from headrace.deploy import ready_engine
    from headrace.events.kafka.ingest import check
    from headrace.events.kafka.replay import replay, time_of

    check(settings)
    first = time_of(since)
    with ready_engine(settings, say=Steps()) as engine:
        read = replay(engine, first, lambda rows: _progress(f"{rows:,} messages"))
    print(f"{read:,} messages read; stored events are unchanged")


@command(
    example='headrace psql -c "select * from headrace.retrain_trigger"', context_settings=PASS_ON
)
@click.option("--owner", is_flag=True, help="As the owner of the database, with all rights.")
@rest
def psql(settings: Settings, owner: bool, arguments: tuple[str, ...]) -> int:
    """Open psql as a reader. An embedded database that is down is started."""
    from headrace.deploy import ready_engine
    from headrace.engine import open_engine
    from headrace.engine.programs import run_psql

    with (open_engine if owner else ready_engine)(settings, say=Steps()) as engine:
        if not owner and not engine.knows_reader:
            raise SettingError(
                "HEADRACE_READER_DSN: must be set to read as headrace_reader; "
                "or, for all rights: headrace psql --owner"
            )
        return run_psql(engine.dsn if owner else engine.reader_dsn(), list(arguments))


@command(example="headrace dbt build", context_settings=PASS_ON)
@rest
def dbt(settings: Settings, arguments: tuple[str, ...]) -> None:
    """Run dbt on the database; `docs` opens its documentation, `env` prints its connection."""
    from headrace import deploy
    from headrace.operate import dbt_docs

    if not arguments:
        raise SettingError("dbt needs arguments, for example: headrace dbt build")
    with deploy.ready_engine(settings, say=Steps()) as engine:
        if arguments == ("env",):
            for name, value in deploy.dbt_connection(engine).items():
                print(f"export {name}={shlex.quote(value)}")
        elif arguments == ("docs",):
            deploy.dbt(engine, "docs", "generate", echo=True)
            dbt_docs.serve(Path(deploy.dbt_environment(engine)["DBT_TARGET_PATH"]))
        else:
            deploy.dbt(engine, *arguments, echo=True)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(line, end="\r", file=sys.stderr, flush=True)

"""The command line: `headrace COMMAND --help` shows an example of each."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headrace import __version__, extras
from headrace.errors import HeadraceError, ModelError, SettingError
from headrace.operate.printing import Steps, print_json, print_table
from headrace.settings import Settings, describe

if TYPE_CHECKING:
    from headrace.engine import Engine

Command = Callable[[argparse.Namespace, Settings], int]
# Commands that give the arguments that they do not know to another program.
PASS_ON = ("psql", "dbt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for an error, 2 for wrong arguments."""
    # Before torch is imported: spinning threads cost a busy machine most of its time.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    parser = _parser()
    parsed, rest = parser.parse_known_args(arguments)
    if rest and parsed.command not in PASS_ON:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    parsed.arguments = rest
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = Settings.load(home=parsed.home)
        extras.require(parsed.command, settings)
        command: Command = parsed.run
        return command(parsed, settings)
    except HeadraceError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"headrace: {extras.named(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("headrace: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace",
        description="Feed a production model what people made of its answers.",
        epilog="Settings come from the environment: `headrace settings` lists them.",
    )
    parser.add_argument("--version", action="version", version=f"headrace {__version__}")
    parser.add_argument("--home", type=Path, help="folder of everything kept here (.headrace)")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Command, summary: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example: {example}",
        )
        command.set_defaults(run=run)
        return command

    add("up", up, "Run the database, the gateway and the trainer until Ctrl-C.", "headrace up")
    add("gateway", gateway, "Run the HTTP gateway until Ctrl-C.", "headrace gateway")
    trainer = add("trainer", trainer_, "Run the trainer until Ctrl-C.", "headrace trainer --once")
    trainer.add_argument("--once", action="store_true", help="take one due trigger, then end")
    add("ingest", ingest_, "Store what Kafka brings until Ctrl-C.", "headrace ingest")
    replay = add(
        "replay", replay_, "Read the topics of Kafka again; what is stored stays as it is.",
        "headrace replay --from 2026-01-31T00:00:00Z",
    )  # fmt: skip
    replay.add_argument(
        "--from", dest="since", default="earliest", metavar="TIME",
        help="a time of messages (ISO 8601), or earliest",
    )  # fmt: skip
    status_ = add("status", status, "Say what runs and how the loop is.", "headrace status --json")
    doctor = add(
        "doctor", doctor_, "Say what is wrong with a deployment, and what to do about it.",
        "headrace doctor",
    )  # fmt: skip
    psql_ = add(
        "psql", psql, "Open a psql session that reads, starting the database when it is down.",
        'headrace psql -c "select * from headrace.retrain_trigger"',
    )  # fmt: skip
    psql_.add_argument("--owner", action="store_true", help="as the owner, who may change all")
    migrate = add(
        "migrate", migrate_, "Bring tables and views up to this version.", "headrace migrate"
    )
    migrate.add_argument("--force", action="store_true", help="apply all SQL even if unchanged")
    add("dbt", dbt_, "Run dbt on the database.", "headrace dbt build")
    train = add(
        "train", train_, "Hand a model over: versions of it are trained, and promoted when better.",
        "headrace train churn",
    )  # fmt: skip
    train.add_argument("model")
    train.add_argument("--off", action="store_true", help="take it back: it is watched only")
    policy = add(
        "policy", policy_, "Show or set the thresholds of a model ('*': all models).",
        "headrace policy churn min_new_labels=500 cooldown='1 hour'",
    )  # fmt: skip
    policy.add_argument("model")
    policy.add_argument("values", nargs="*", metavar="POLICY=VALUE", help="an empty VALUE resets")
    versions = add(
        "versions", versions_, "List the versions of a model.", "headrace versions churn"
    )
    versions.add_argument("model")
    promote = add(
        "promote", promote_, "Have a published version serve all requests, or a share of them.",
        "headrace promote churn v3 --traffic 0.1",
    )  # fmt: skip
    promote.add_argument("model")
    promote.add_argument("model_version")
    promote.add_argument("--traffic", type=float, help="share in (0, 1): serve as a canary")
    rollback = add(
        "rollback", rollback_, "Take the serving version back; the one before it serves again.",
        "headrace rollback churn --reason 'wrong labels'",
    )  # fmt: skip
    rollback.add_argument("model")
    rollback.add_argument("--reason", default="by hand")
    dashboards = add(
        "dashboards", dashboards_, "Push the dashboards to Grafana, or draw them as a page.",
        "headrace dashboards page --model churn --out loop.html",
    )  # fmt: skip
    dashboards.add_argument("what", choices=["push", "page"])
    dashboards.add_argument("--model", help="of the page; default: the latest active one")
    dashboards.add_argument("--out", type=Path, default=Path("loop.html"), help="of the page")
    demo = add(
        "demo", demo_, "Watch the loop turn on a real stream of vulnerability reports.",
        "headrace demo --fast",
    )  # fmt: skip
    demo.add_argument("--fast", action="store_true", help="a part of the stream, about a minute")
    settings = add("settings", settings_, "List the settings.", "headrace settings --json")
    for command in (status_, doctor, train, policy, versions, settings, demo):
        command.add_argument("--json", action="store_true", help="print JSON for scripts")
    return parser


def up(_: argparse.Namespace, settings: Settings) -> int:
    # Before the imports, which take a while when nothing is in the machine's cache.
    say = Steps(sys.stdout)
    say(f"home     {settings.home.resolve()}")

    from headrace.control.owner import owner_key
    from headrace.deploy import migrate, prepare
    from headrace.engine import DIALECTS, open_engine
    from headrace.machine import announced, free_port, wait_for_port
    from headrace.operate.processes import Family, children

    _look_at_kafka(settings)
    key = owner_key(settings)
    port = str(settings.port or free_port())
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    url = f"http://{host}:{port}"
    parts: dict[str, dict[str, str]] = {"gateway": {"HEADRACE_PORT": port}, "trainer": {}}
    if settings.kafka and not DIALECTS[settings.engine].reads_topics:
        parts["ingest"] = {}
    with ExitStack() as stack:
        wait_for_port(replace(settings, port=int(port)), say)
        engine = stack.enter_context(open_engine(settings, say=say))
        if not engine.dialect.migrates_by_itself:
            from headrace.events.kafka.brokers import retry_without_brokers

            retry_without_brokers(lambda: migrate(engine, say=say))
        stack.enter_context(announced(settings, "up"))
        gateway, *others = stack.enter_context(children(settings, parts))
        family = Family(settings, [gateway, *others], say)
        family.insist(lambda: prepare(engine, say))
        say("gateway: starting")
        family.wait_until_ready(url, gateway)
        print(f"gateway  {url}")
        print(f"key      {key.place}")
        for child in others:
            print(f"{child.name:<8} {child.log}")
        print("Ctrl-C stops all", flush=True)
        stop = _stop_event()
        while not stop.wait(1):
            family.look_after()
    return 0


def gateway(_: argparse.Namespace, settings: Settings) -> int:
    from headrace.control.owner import owner_key
    from headrace.gateway.server import serve
    from headrace.machine import announced

    _look_at_kafka(settings)
    with ExitStack() as stack:

        def ready(url: str) -> None:
            stack.enter_context(announced(settings, "gateway", url=url))
            print(f"gateway  {url}\nkey      {owner_key(settings).place}", flush=True)

        serve(settings, on_ready=ready, say=Steps())
    return 0


def trainer_(parsed: argparse.Namespace, settings: Settings) -> int:
    from headrace.deploy import ready_engine
    from headrace.machine import announced
    from headrace.trainer.watch import Trainer

    stop = _stop_event()
    _look_at_kafka(settings)
    with ready_engine(settings, say=Steps()) as engine, Trainer(engine, _say) as trainer:
        if parsed.once:
            if not trainer.run_once():
                print("nothing is due; see headrace.retrain_trigger")
            return 0
        with announced(settings, "trainer"):
            print("trainer  ready", flush=True)
            trainer.watch(stop)
    return 0


def ingest_(_: argparse.Namespace, settings: Settings) -> int:
    from headrace.deploy import ready_engine
    from headrace.events.kafka.brokers import retry_without_brokers
    from headrace.events.kafka.end_offsets import EndOffsetsRecorder
    from headrace.events.kafka.ingest import check, ingest
    from headrace.machine import announced

    stop = _stop_event()
    check(settings)
    with (
        ready_engine(settings, say=Steps()) as engine,
        announced(settings, "ingest"),
        EndOffsetsRecorder(engine),
    ):
        print(f"ingest   from {settings.kafka}", flush=True)
        retry_without_brokers(lambda: ingest(engine, stop), stop)
    return 0


def replay_(parsed: argparse.Namespace, settings: Settings) -> int:
    from headrace.deploy import ready_engine
    from headrace.events.kafka.ingest import check
    from headrace.events.kafka.replay import replay, time_of

    check(settings)
    since = time_of(parsed.since)
    with ready_engine(settings, say=Steps()) as engine:
        read = replay(engine, since, lambda rows: _progress(f"{rows:,} messages"))
    print(f"{read:,} messages read; what was there before is as it was")
    return 0


def status(parsed: argparse.Namespace, settings: Settings) -> int:
    from headrace.operate.status import print_status, status_of

    report = status_of(settings)
    if parsed.json:
        return print_json(report)
    print_status(settings, report)
    return 0


def doctor_(parsed: argparse.Namespace, settings: Settings) -> int:
    from dataclasses import asdict

    from headrace.operate.doctor.examine import examine

    found = []
    for each in examine(settings):
        found.append(each)
        if not parsed.json:
            print(f"{each.level:8} {each.check:10} {each.says}", end="")
            print(f"; to do: {each.do}" if each.do else "", flush=True)
    if parsed.json:
        print_json([asdict(each) for each in found])
    return int(any(each.level == "failed" for each in found))


def psql(parsed: argparse.Namespace, settings: Settings) -> int:
    from headrace.deploy import ready_engine
    from headrace.engine import open_engine
    from headrace.engine.programs import run_psql

    with (open_engine if parsed.owner else ready_engine)(settings, say=Steps()) as engine:
        if not parsed.owner and not engine.knows_reader:
            raise SettingError(
                "HEADRACE_READER_DSN: must be set to read as headrace_reader; "
                "or, for all rights: headrace psql --owner"
            )
        return run_psql(engine.dsn if parsed.owner else engine.reader_dsn(), parsed.arguments)


def migrate_(parsed: argparse.Namespace, settings: Settings) -> int:
    from headrace.deploy import migrate
    from headrace.engine import open_engine

    say = Steps(sys.stdout)
    with open_engine(settings, say=say) as engine:
        migrate(engine, force=parsed.force, say=say)
    print("up to date")
    return 0


def dbt_(parsed: argparse.Namespace, settings: Settings) -> int:
    from headrace.deploy import dbt, ready_engine

    if not parsed.arguments:
        raise SettingError("dbt needs arguments, for example: headrace dbt build")
    with ready_engine(settings, say=Steps()) as engine:
        dbt(engine, *parsed.arguments, echo=True)
    return 0


def on_engine(run: Callable[[argparse.Namespace, Engine], int]) -> Command:
    """Make a command of what works on the engine: it is started where it is embedded, and ready."""

    def command(parsed: argparse.Namespace, settings: Settings) -> int:
        from headrace.deploy import ready_engine

        with ready_engine(settings, say=Steps()) as engine:
            return run(parsed, engine)

    return command


@on_engine
def train_(parsed: argparse.Namespace, engine: Engine) -> int:
    from headrace.control.handover import hand_over, told

    report = hand_over(engine, parsed.model, learns=not parsed.off)
    if parsed.json:
        return print_json(report)
    print(*told(report), sep="\n")
    return 0


@on_engine
def policy_(parsed: argparse.Namespace, engine: Engine) -> int:
    from headrace.control import policies

    values: dict[str, str | None] = {}
    for text in parsed.values:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"{text}: must have the form POLICY=VALUE")
        values[name] = value or None
    result = policies.write(engine, parsed.model, values)
    if parsed.json:
        return print_json(result)
    for name, value in result["policies"].items():
        print(f"{name:18} {value}{'' if name in result['own'] else '   (default)'}")
    return 0


@on_engine
def versions_(parsed: argparse.Namespace, engine: Engine) -> int:
    rows = engine.rows(
        "select model_version, status, traffic, trained_at, promoted_at, reason "
        "from headrace.model_versions where model = %s order by trained_at, model_version",
        [parsed.model],
    )
    if not rows and not parsed.json:
        raise ModelError(f"no version of {parsed.model!r} is known; see headrace status")
    return print_json(rows) if parsed.json else print_table(rows)


@on_engine
def promote_(parsed: argparse.Namespace, engine: Engine) -> int:
    from headrace.control.lifecycle import promote

    promote(engine, parsed.model, parsed.model_version, traffic=parsed.traffic)
    print(f"{parsed.model} {parsed.model_version} serves")
    return 0


@on_engine
def rollback_(parsed: argparse.Namespace, engine: Engine) -> int:
    from headrace.control.lifecycle import rollback

    taken, serving = rollback(engine, parsed.model, parsed.reason)
    print(f"{parsed.model} {taken} was taken back; {serving or 'nothing'} serves")
    return 0


@on_engine
def dashboards_(parsed: argparse.Namespace, engine: Engine) -> int:
    if parsed.what == "push":
        from headrace.dashboards.push import push

        pushed = push(engine.settings, engine)
        print(pushed.url, *pushed.notes, sep="\n")
        return 0
    from headrace.dashboards.page import render

    render(engine, parsed.model, parsed.out)
    print(parsed.out)
    return 0


def demo_(parsed: argparse.Namespace, settings: Settings) -> int:
    from dataclasses import asdict

    from rich.console import Console

    from headrace.demo.run import run_demo, tell

    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=parsed.json)
    summary = run_demo(settings, console, fast=parsed.fast)
    if parsed.json:
        return print_json(asdict(summary))
    tell(summary, settings, console)
    return 0


def settings_(parsed: argparse.Namespace, _: Settings) -> int:
    rows = [dict(zip(("variable", "default", "meaning"), row, strict=True)) for row in describe()]
    return print_json(rows) if parsed.json else print_table(rows)


def _look_at_kafka(settings: Settings) -> None:
    if settings.kafka:
        from headrace.events.kafka.brokers import warn_without_brokers

        warn_without_brokers(settings)


def _say(line: str) -> None:
    print(line, flush=True)


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        print(line, end="\r", file=sys.stderr, flush=True)


def _stop_event() -> threading.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

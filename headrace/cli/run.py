"""Commands that run until Ctrl-C: up, gateway, trainer, conductor, embedder, ingest, and the demo.

`headrace alerts send` is another one.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from dataclasses import asdict, replace
from urllib.parse import urlencode

import click

from headrace.cli.command import as_json, command
from headrace.operate.printing import Steps, print_json
from headrace.settings import Settings

# The lowest priority of a process.
LAST = 19
SERVING = ("engine", "gateway", "features", "model")


@command(example="headrace up", needs=SERVING)
def up(settings: Settings) -> None:
    """Run database, gateway, trainer, conductor, embedder and what sends alerts until Ctrl-C."""
    # Before the imports, which take a while when nothing is in the machine's cache.
    say = Steps(sys.stdout)
    say(f"home     {settings.home.resolve()}")

    from headrace.alerting.receivers import read_receivers
    from headrace.alerting.send import lines
    from headrace.control.owner import owner_key
    from headrace.declared import read_declared
    from headrace.deploy import migrate, prepare
    from headrace.engine import DIALECTS, open_engine
    from headrace.machine import announced, free_port, stop_event, wait_for_port
    from headrace.operate.processes import Family, children

    _look_at_kafka(settings)
    read_declared(settings.models_path)
    receivers = lines(read_receivers(settings.models_path), settings.alert_hosts)
    key = owner_key(settings)
    port = str(settings.port or free_port())
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    url = f"http://{host}:{port}"
    parts: dict[str, dict[str, str]] = {
        "gateway": {"HEADRACE_PORT": port}, "trainer": {}, "conductor": {}
    }  # fmt: skip
    if DIALECTS[settings.engine].has_vectors:
        parts["embedder"] = {}
    if settings.kafka and not DIALECTS[settings.engine].reads_topics:
        parts["ingest"] = {}
    if receivers:
        parts["alerts send"] = {}
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
        stop = stop_event()
        while not stop.wait(1):
            family.look_after()


@command(example="headrace gateway", needs=("engine", "gateway"))
def gateway(settings: Settings) -> None:
    """Run the HTTP gateway until Ctrl-C."""
    from headrace.control.owner import owner_key
    from headrace.gateway.server import serve
    from headrace.machine import announced

    _look_at_kafka(settings)
    with ExitStack() as stack:

        def ready(url: str) -> None:
            stack.enter_context(announced(settings, "gateway", url=url))
            print(f"gateway  {url}\nkey      {owner_key(settings).place}", flush=True)

        serve(settings, on_ready=ready, say=Steps())


@command(example="headrace review churn")
@click.argument("model", required=False)
def review(settings: Settings, model: str | None) -> None:
    """Print the address of the page for reviewers, with their key."""
    from headrace.control.owner import owner_key, reviewer_key
    from headrace.machine import running

    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    url = running(settings).get("gateway", {}).get("url", f"http://{host}:{settings.port}")
    given = {"key": reviewer_key(owner_key(settings)).value, **({"model": model} if model else {})}
    print(f"{url}/review#{urlencode(given)}")


@command(example="headrace trainer --once", needs=("engine", "features", "model"))
@click.option("--once", is_flag=True, help="Train for one due trigger, then end.")
def trainer(settings: Settings, once: bool) -> None:
    """Run the trainer until Ctrl-C."""
    from headrace.declared import read_declared
    from headrace.deploy import ready_engine
    from headrace.machine import announced, stop_event
    from headrace.trainer.watch import Trainer

    def say(line: str) -> None:
        print(line, flush=True)

    stop = stop_event()
    _look_at_kafka(settings)
    read_declared(settings.models_path)
    with ready_engine(settings, say=Steps()) as engine, Trainer(engine, say) as trainer:
        trainer.declare()
        if once:
            if not trainer.run_once():
                print("nothing is due; see headrace.retrain_trigger")
            return
        with announced(settings, "trainer"):
            print("trainer  ready", flush=True)
            trainer.watch(stop)


@command(example="headrace conductor --once")
@click.option("--once", is_flag=True, help="Take the steps that are due, then end.")
def conductor(settings: Settings, once: bool) -> None:
    """Roll versions out, and take back what does harm, until Ctrl-C."""
    from headrace.control.conductor import Conductor
    from headrace.deploy import ready_engine
    from headrace.machine import announced, stop_event

    def say(line: str) -> None:
        print(line, flush=True)

    stop = stop_event()
    _look_at_kafka(settings)
    with ready_engine(settings, say=Steps()) as engine, Conductor(engine, say) as conductor:
        if once:
            if not conductor.take_steps():
                print("no step is due; see headrace rollouts")
            return
        with announced(settings, "conductor"):
            print("conductor ready", flush=True)
            conductor.watch(stop)


@command(example="headrace embedder", needs=("engine", "model"))
def embedder(settings: Settings) -> None:
    """Keep vectors of recent inputs, as the policy embed_inputs says, until Ctrl-C."""
    from headrace.deploy import ready_engine
    from headrace.machine import announced, stop_event
    from headrace.vectors.embedder import InputEmbedder

    def say(line: str) -> None:
        print(line, flush=True)

    os.nice(LAST)  # whatever answers requests goes first
    stop = stop_event()
    _look_at_kafka(settings)
    with ready_engine(settings, say=Steps()) as engine, announced(settings, "embedder"):
        embedder = InputEmbedder(engine, say)
        print("embedder ready", flush=True)
        embedder.run(stop)


@command(example="headrace ingest", needs=("engine", "kafka"))
def ingest(settings: Settings) -> None:
    """Store the events that arrive on Kafka until Ctrl-C."""
    from headrace.deploy import ready_engine
    from headrace.events.kafka.brokers import retry_without_brokers
    from headrace.events.kafka.end_offsets import EndOffsetsRecorder
    from headrace.events.kafka.ingest import check, ingest
    from headrace.machine import announced, stop_event

    stop = stop_event()
    check(settings)
    with (
        ready_engine(settings, say=Steps()) as engine,
        announced(settings, "ingest"),
        EndOffsetsRecorder(engine),
    ):
        print(f"ingest   from {settings.kafka}", flush=True)
        retry_without_brokers(lambda: ingest(engine, stop), stop)


@command(example="headrace demo --fast", needs=(*SERVING, "demo"))
@click.option("--fast", is_flag=True, help="Only a part of the stream, about a minute.")
@as_json
def demo(settings: Settings, fast: bool, as_json: bool) -> None:
    """Watch the loop run on a real stream of vulnerability reports."""
    from rich.console import Console

    from headrace.demo.run import run_demo, tell

    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(stderr=as_json)
    summary = run_demo(settings, console, fast=fast)
    if as_json:
        print_json(asdict(summary))
    else:
        tell(summary, settings, console)


def _look_at_kafka(settings: Settings) -> None:
    if settings.kafka:
        from headrace.events.kafka.brokers import warn_without_brokers

        warn_without_brokers(settings)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt

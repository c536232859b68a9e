"""The command on alerts: list, test and send."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from headrace.cli.command import as_json, command
from headrace.errors import AlertError, SettingError
from headrace.operate.printing import Steps, print_json, print_table
from headrace.settings import Settings

if TYPE_CHECKING:
    from headrace.alerting.receivers import Receiver
    from headrace.alerting.send import Line


@command(example="headrace alerts test oncall")
@click.argument("what", type=click.Choice(["list", "test", "send"]), default="list")
@click.argument("receiver", required=False)
@as_json
def alerts(settings: Settings, what: str, receiver: str | None, as_json: bool) -> None:
    """List the alerts, send a RECEIVER a test, or tell all receivers until Ctrl-C.

    The receivers are those of headrace.toml.
    """
    from headrace.alerting.receivers import read_receivers
    from headrace.alerting.send import lines

    if (what == "test") != (receiver is not None):
        raise click.UsageError("alerts: must have RECEIVER with test, and with nothing else")
    declared = read_receivers(settings.models_path)
    if what == "list":
        _list(settings, declared, as_json)
        return
    if receiver is not None and receiver not in declared:
        there_are = ", ".join(declared) or "none"
        raise SettingError(
            f"RECEIVER: must be declared in {settings.models_path.name}, where there are "
            f"{there_are}, got {receiver!r}"
        )
    wanted = declared if receiver is None else {receiver: declared[receiver]}
    ways = lines(wanted, settings.alert_hosts)
    if receiver is None:
        _send(settings, ways)
    else:
        _test(ways[0], as_json)


def _list(settings: Settings, declared: dict[str, Receiver], as_json: bool) -> None:
    from headrace.alerting.notices import Notices
    from headrace.deploy import ready_engine

    with ready_engine(settings, say=Steps()) as engine:
        shown = engine.rows(
            "select model, alert, subject, state, severity, value, threshold, since "
            "from headrace.alerts order by severity, model, alert, subject"
        )
        told = Notices(engine).open() if declared else []
    for row in shown:
        row["told"] = {
            notice["receiver"]: notice["problem"] or notice["told_at"]
            for notice in told
            if all(notice[name] == row[name] for name in ("model", "alert", "subject"))
        }
    if as_json:
        print_json(shown)
    elif shown:
        print_table([{**row, "told": _told(row["told"])} for row in shown])
    else:
        print("no alert fires")


def _told(receivers: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {moment:%H:%M}"
        if isinstance(moment, datetime)
        else f"{name}: {moment or 'not yet'}"
        for name, moment in receivers.items()
    )


def _test(line: Line, as_json: bool) -> None:
    from headrace.alerting.formats import trial_notices

    for notice in trial_notices(datetime.now(UTC)):
        answer = line.tell([notice])
        if not 200 <= answer.status < 300:
            raise AlertError(f"alerts.{line.name}: it answered with HTTP {answer.status}")
    if as_json:
        print_json({"receiver": line.name, "status": answer.status})
    else:
        print(f"{line.name} has taken a test alert and its end: HTTP {answer.status}")


def _send(settings: Settings, ways: list[Line]) -> None:
    from headrace.alerting.send import Sender
    from headrace.deploy import ready_engine
    from headrace.machine import announced, stop_event

    if not ways:
        raise SettingError(f"{settings.models_path.name}: declares no receiver [alerts.NAME]")
    stop = stop_event()
    with ready_engine(settings, say=Steps()) as engine, announced(settings, "alerts"):
        print(f"alerts   to {', '.join(line.name for line in ways)}", flush=True)
        Sender(engine, ways).run(stop)

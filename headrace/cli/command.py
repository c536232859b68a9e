"""What all commands share: settings, the extras that they need, their examples, `--json`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from headrace import __version__, extras
from headrace.operate.printing import Steps
from headrace.settings import Settings

Body = Callable[..., int | None]


class Command(click.Command):
    """A command whose body is called with the settings, if the extras that it needs are installed.

    Attributes:
        needs: names of these extras.
    """

    def __init__(self, name: str, *, example: str, needs: tuple[str, ...], **options: Any) -> None:
        super().__init__(name, epilog=f"\b\nexample: {example}", **options)
        self.needs = needs

    def invoke(self, context: click.Context) -> int | None:
        settings = Settings.load(home=context.find_root().params["home"])
        extras.require(self.needs, settings)
        assert self.callback
        code: int | None = context.invoke(self.callback, settings, **context.params)
        return code


class _Group(click.Group):
    def list_commands(self, _: click.Context) -> list[str]:
        return list(self.commands)  # as they are written, not sorted


@click.group(
    cls=_Group, epilog="Settings come from the environment: `headrace settings` lists them."
)
@click.version_option(__version__, message="headrace %(version)s")
@click.option(
    "--home", type=click.Path(path_type=Path), help="Folder of all local data (.headrace)."
)
def root(home: Path | None) -> None:
    """Live SQL views, features and fine-tunes from predictions and the feedback on them."""


def command(
    name: str | None = None,
    *,
    example: str,
    needs: tuple[str, ...] = ("engine",),
    **options: Any,
) -> Callable[[Body], click.Command]:
    """Make a function a command: its docstring is the help, its first parameter the settings."""
    return root.command(name, cls=Command, example=example, needs=needs, **options)


def on_engine(body: Body) -> Body:
    """Call the body with the engine instead of the settings: started, if embedded, and migrated."""

    @wraps(body)
    def on_settings(settings: Settings, **options: Any) -> int | None:
        from headrace.deploy import ready_engine

        with ready_engine(settings, say=Steps()) as engine:
            return body(engine, **options)

    return on_settings


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
# The arguments of another program: options that are not ours are passed on to it.
rest = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
PASS_ON = {"ignore_unknown_options": True}

"""The command of a federation's server."""

from __future__ import annotations

from pathlib import Path

import click

from headrace.cli.command import command
from headrace.errors import ModelError, SettingError
from headrace.settings import Settings

PEM = click.Path(exists=True, dir_okay=False, path_type=Path)


@command(example="headrace federated --sites 3 --least 2", needs=("federated",))
@click.option("--sites", type=click.IntRange(2), default=2, show_default=True,
              help="Number that a session begins with.")  # fmt: skip
@click.option("--least", type=click.IntRange(2), help="Number that must answer; default: all.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--round-s", type=click.FloatRange(1), default=3_600.0, show_default=True,
              help="Seconds that a site may take in a round.")  # fmt: skip
@click.option("--address", default="127.0.0.1:9092", show_default=True)
@click.option("--authority", type=PEM, help="PEM of who signed the certificate.")
@click.option("--certificate", type=PEM, help="PEM of this server.")
@click.option("--key", type=PEM, help="PEM of the certificate's private key.")
@click.option("--once", is_flag=True, help="One session, then end.")
def federated(
    _: Settings,
    sites: int,
    least: int | None,
    rounds: int,
    round_s: float,
    address: str,
    authority: Path | None,
    certificate: Path | None,
    key: Path | None,
    once: bool,
) -> None:
    """Average the adapters of several sites until Ctrl-C, session after session."""
    from headrace.federated.server import Plan, serve
    from headrace.model.federated import check_address

    files = [one for one in (authority, certificate, key) if one]
    if len(files) not in (0, 3):
        raise SettingError("--authority, --certificate and --key: must be given together")
    check_address("--address", address, bool(files))
    if (least or sites) > sites:
        raise SettingError(f"--least: must be at most --sites, {sites}, got {least}")
    certificates = tuple(one.read_bytes() for one in files) or None
    plan = Plan(sites, least or sites, rounds, round_s, certificates)  # type: ignore[arg-type]
    print(f"federated  {address}, waiting for {sites} sites", flush=True)
    while True:
        try:
            serve(address, plan, lambda line: print(line, flush=True))
            print("the session is over", flush=True)
        except ModelError as error:
            if once:
                raise
            print(error, flush=True)
        if once:
            return

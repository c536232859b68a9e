"""How a recipe learns matrices with other sites: rounds of its own training, and what they mean.

Flower runs in a program of its own (`headrace.federated.client`): its packages and dbt's exclude
each other, so it may need another environment. What it is given is matrices and a number.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from headrace.errors import ModelError, SettingError
from headrace.model.config import Federation
from headrace.model.federated import Matrices, check_address, fits, learned, packed, unpacked
from headrace.trainer.recipes._program import Program

CLIENT = Path(__file__).parents[2] / "federated" / "client.py"
MORE_S = 30.0  # for the program to say itself that it waited in vain

Learn = Callable[[Matrices, int, int], tuple[Matrices, int]]


def average_with_others(
    federation: Federation, start: Matrices, about: Mapping[str, str], learn: Learn
) -> tuple[Matrices, int]:
    """Return the matrices that the sites agree on in the end, and the number of rounds.

    Args:
        start: what this site would start from; the server takes that of one site.
        about: what must be the same at all sites.
        learn: is given matrices, the number of the round and of all; returns what it made of them
            and from how many examples.

    Raises:
        SettingError: the server is on another machine, and there is no certificate.
        ModelError: the server cannot be reached or ended, too few sites are left, or the others'
            base or settings are not this site's.
    """
    check_address("federation.server", federation.server, bool(federation.certificate))
    if federation.certificate and not Path(federation.certificate).is_file():
        raise SettingError(
            f"federation.certificate: must be a file, got {federation.certificate!r}"
        )
    with TemporaryDirectory(prefix="headrace-federation-") as place:
        folder = Path(place)
        (folder / "start").write_bytes(packed(start, about))
        program = Program(
            [
                federation.python or sys.executable,
                "-P",  # what lies beside the program is not what it imports
                str(CLIENT),
                federation.server,
                place,
                str(federation.wait_s),
                federation.certificate,
            ],
            ends_with_thread=True,
        )
        said, rounds = _ask(program, {}, federation), 0
        while "round" in said:
            shared, theirs = unpacked((folder / "shared").read_bytes())
            _compare(about, theirs)
            if not fits(shared, start):
                raise ModelError("federation: the shared matrices do not fit the base of this site")
            rounds = said["round"]
            made, examples = learn(shared, rounds, said["rounds"])
            (folder / "learned").write_bytes(packed(learned(made), about))
            said = _ask(program, {"examples": examples}, federation)
        if said["failed"]:
            raise ModelError(f"federation: {said['failed']}")
        return unpacked((folder / "shared").read_bytes())[0], rounds


def _ask(program: Program, said: Mapping[str, Any], federation: Federation) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(
            program.ask(json.dumps(said).encode(), federation.wait_s + MORE_S)
        )
    except ModelError as error:
        raise ModelError(f"federation: the program that talks to the server {error}") from None
    return answer


def _compare(ours: Mapping[str, str], theirs: Mapping[str, str]) -> None:
    """Refuse matrices that belong to something else."""
    for name, wanted in ours.items():
        if theirs.get(name) != wanted:
            raise ModelError(
                f"federation: {name} must be the same at all sites, "
                f"got {wanted!r} here and {theirs.get(name)!r} there"
            )

"""A site's end of a federation: Flower's client, started as a program by the one that trains.

It may run in another environment than Headrace, one with Flower and nothing else, because it
imports nothing of Headrace. Standard input and output are lines of JSON:

    → {}                     ← {"round": 1, "rounds": 3}
    → {"examples": 800}      ← {"round": 2, "rounds": 3} …
    → {"examples": 800}      ← {"failed": ""}

Matrices lie in the folder that it is given: `start` to begin with, `shared` in each round and at
the end, `learned` as the answer.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

AGAIN_S = 1.0  # between two attempts to reach the server


def main(address: str, folder: Path, wait_s: float, certificate: str) -> str:
    """Join one session; return what went wrong, if anything."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    try:
        from flwr.client import Client, start_client
        from flwr.common import Code, EvaluateRes, FitRes, GetParametersRes, Parameters, Status
    except ImportError as error:
        return f"{error}; {sys.executable} needs `pip install 'headrace[federated]'`"
    grpc: Any = import_module("grpc")  # which Flower brings
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    fine = Status(Code.OK, "")

    class Site(Client):  # type: ignore[misc]
        begun = over = False

        def get_parameters(self, _ins: Any) -> Any:
            self.begun = True
            return GetParametersRes(fine, Parameters([(folder / "start").read_bytes()], ""))

        def fit(self, ins: Any) -> Any:
            self.begun = True
            (folder / "shared").write_bytes(ins.parameters.tensors[0])
            told = _ask({name: ins.config[name] for name in ("round", "rounds")})
            learned = Parameters([(folder / "learned").read_bytes()], "")
            return FitRes(fine, learned, told["examples"], {})

        def evaluate(self, ins: Any) -> Any:
            self.over = True
            (folder / "shared").write_bytes(ins.parameters.tensors[0])
            _tell({"failed": ins.config["failed"]})
            return EvaluateRes(fine, 0.0, 1, {})

    site, until = Site(), time.monotonic() + wait_s
    root = Path(certificate).read_bytes() if certificate else None
    sys.stdin.readline()
    while True:
        why = "it hung up"
        try:
            start_client(server_address=address, client=site, root_certificates=root)
        except grpc.RpcError as error:
            why = error.details()
        if site.over:
            return ""
        if site.begun:
            return f"the server at {address} ended before the last round"
        if time.monotonic() > until:
            return f"the server at {address} cannot be reached: {why}"
        time.sleep(AGAIN_S)


def _tell(said: dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


def _ask(said: dict[str, Any]) -> Any:
    _tell(said)
    line = sys.stdin.readline()
    if not line:
        sys.exit(1)  # the one that trains has ended
    return json.loads(line)


if __name__ == "__main__":
    wrong = main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
    sys.exit(f"{wrong}" if wrong else 0)

"""The server of a federation: it sends matrices to sites, and averages what they learned.

Flower (`flwr`) carries the messages. Its own loop goes on without an error where all sites failed,
waits for a site that hangs, and ends where the sites' metrics differ; so the loop is here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # read by Flower at its import

from flwr.common import EvaluateIns, FitIns, GetParametersIns, Parameters
from flwr.server import History, Server, ServerConfig, SimpleClientManager
from flwr.server import start_server as start_flower

from headrace.errors import ModelError, one_line
from headrace.model.federated import (
    Matrices,
    averaged,
    fits,
    learned,
    packed,
    unpacked,
)

FOREVER = 10 * 365 * 86_400
LAST_S = 60  # for a site to take the result
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Plan:
    """A session.

    Attributes:
        sites: that it begins with.
        least: that must answer in each round.
        rounds: how often sites learn and are averaged.
        round_s: seconds that a site may take in a round; one that takes longer is left out.
        certificates: of the authority, and certificate and key of the server, as PEM; None for
            no encryption.
    """

    sites: int
    least: int
    rounds: int
    round_s: float
    certificates: tuple[bytes, bytes, bytes] | None = None


def serve(address: str, plan: Plan, say: Callable[[str], None]) -> None:
    """Run one session: wait for the sites, average them round by round, send them the result.

    Raises:
        ModelError: fewer than the least number of sites answered in a round. They are told, too.
    """
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    server = _Averaging(plan, say)
    start_flower(
        server_address=address,
        server=server,
        config=ServerConfig(num_rounds=plan.rounds, round_timeout=plan.round_s),
        certificates=plan.certificates,
    )
    if server.failed:
        raise ModelError(f"federation: {server.failed}")


class _Averaging(Server):  # type: ignore[misc]
    """FedAvg in place of Flower's loop; `failed` says why a session failed."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        super().__init__(client_manager=SimpleClientManager())
        self.plan, self.say = plan, say
        self.failed = ""

    def fit(self, num_rounds: int, timeout: float | None) -> tuple[History, float]:
        began = time.monotonic()
        manager = self.client_manager()
        manager.wait_for(self.plan.sites, FOREVER)
        sites = list(manager.all().values())
        self.say(f"{len(sites)} sites are there")
        try:
            message = self._start(sites, timeout)
            for number in range(1, num_rounds + 1):
                sites, message = self._round(sites, message, number, timeout)
        except ModelError as error:
            self.failed, message = str(error).removeprefix("federation: "), b""
        last = EvaluateIns(Parameters([message], ""), {"failed": self.failed})
        self._ask(sites, lambda site: site.evaluate(last, LAST_S, None), LAST_S)
        return History(), time.monotonic() - began

    def _start(self, sites: Sequence[Any], limit_s: float | None) -> bytes:
        """The matrices of one of the sites."""
        asked = GetParametersIns({})
        for site in sites:
            _, got = self._ask([site], lambda one: one.get_parameters(asked, None, None), limit_s)
            if got:
                message: bytes = got[0].parameters.tensors[0]
                unpacked(message)
                return message
        raise ModelError("no site gave matrices to start from")

    def _round(
        self, sites: Sequence[Any], message: bytes, number: int, limit_s: float | None
    ) -> tuple[list[Any], bytes]:
        """The sites that answered, and the new message."""
        order = FitIns(Parameters([message], ""), {"round": number, "rounds": self.plan.rounds})
        matrices, about = unpacked(message)
        there, got = self._ask(sites, lambda site: site.fit(order, None, number), limit_s)
        updates: list[tuple[Matrices, int]] = []
        for one in got:
            try:
                update, _ = unpacked(one.parameters.tensors[0])
                if one.num_examples < 1 or not fits(update, learned(matrices)):
                    raise ModelError("examples, names or shapes are not what was asked for")
                updates.append((update, one.num_examples))
            except (ModelError, IndexError) as error:
                self.say(f"round {number}: an update is left out: {one_line(error)}")
        if len(updates) < self.plan.least:
            raise ModelError(
                f"round {number}: {len(updates)} of {len(sites)} sites answered, "
                f"at least {self.plan.least} must"
            )
        examples = sum(count for _, count in updates)
        self.say(
            f"round {number} of {self.plan.rounds}: {len(updates)} sites, {examples:,} examples"
        )
        return there, packed({**matrices, **averaged(updates)}, about)

    def _ask(
        self, sites: Sequence[Any], ask: Callable[[Any], Answer], limit_s: float | None
    ) -> tuple[list[Any], list[Answer]]:
        """The sites that answered in time, and their answers; others are cut off."""
        pool = ThreadPoolExecutor(max(1, len(sites)))
        asked = {pool.submit(ask, site): site for site in sites}
        done, late = wait(asked, limit_s)
        for one in late:
            asked[one].bridge.close()  # ends the waiting thread, too
        pool.shutdown(wait=True)
        answered = [one for one in asked if one in done and one.exception() is None]
        return [asked[one] for one in answered], [one.result() for one in answered]

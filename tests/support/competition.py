"""Workers that ask for one trigger at once."""

from __future__ import annotations

import threading

from headrace.control.claims import Claim, Trigger, claim
from headrace.engine import Engine

TRIGGER = Trigger("churn", "churn/1", "200 new labels", None)


def compete(engine: Engine, workers: int) -> list[Claim | None]:
    """Have so many workers ask for the trigger at once."""
    got: list[Claim | None] = []
    start = threading.Barrier(workers)

    def ask(name: str) -> None:
        start.wait()
        got.append(claim(engine, TRIGGER, name))

    threads = [threading.Thread(target=ask, args=(f"w{n}",)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got

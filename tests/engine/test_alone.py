"""A lock that is a table: made by whoever comes first, held by one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from headrace.engine import Engine
from headrace.engine.postgres import alone


def test_many_may_make_a_lock_at_once_and_one_holds_it(engine: Engine) -> None:
    together = threading.Barrier(4)
    held = threading.Lock()

    def take(_: int) -> None:
        with engine.connect() as connection:
            for number in range(25):
                together.wait(30)
                with alone(connection, f"locks{number}.one"):
                    assert held.acquire(blocking=False)
                    held.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(4)))

"""One process has a role at a time, and another one has it after its death."""

from __future__ import annotations

import threading
import time

from headrace.alerting.notices import Notices
from headrace.control.lease import Lease
from headrace.engine import Engine
from tests.support.waiting import until


def lease(engine: Engine, lease_s: float = 60) -> Lease:
    return Lease(Notices(engine).writing, "role", lease_s)


def test_one_of_many_gets_it(engine: Engine) -> None:
    wanting = [lease(engine) for _ in range(8)]
    start = threading.Barrier(len(wanting))

    def ask(one: Lease) -> None:
        start.wait()
        one.renew()

    threads = [threading.Thread(target=ask, args=[one]) for one in wanting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (holder,) = [one for one in wanting if one.is_held()]
    with engine.connect() as connection:
        assert [one for one in wanting if one.holds(connection)] == [holder]
    assert holder.is_held(for_s=50) and not holder.is_held(for_s=61)


def test_it_runs_out_for_the_one_that_is_silent_before_another_has_it(engine: Engine) -> None:
    silent, heir = lease(engine, 0.5), lease(engine)
    assert silent.renew() and not heir.renew() and not heir.is_held()
    began = time.monotonic()
    while not heir.renew():
        assert time.monotonic() - began < 60
    assert not silent.is_held()
    assert not silent.renew() and heir.renew()


def test_it_is_kept_within_the_block_and_given_back_at_its_end(engine: Engine) -> None:
    heir = lease(engine)
    with lease(engine, 1) as first:
        until(first.is_held)
        time.sleep(1.5)
        assert first.is_held() and not heir.renew()
    assert not first.is_held() and heir.renew()

"""The serving plan is followed whatever happens to those who follow it."""

from __future__ import annotations

import logging

import pytest

from headrace.control.plan import PlanFollower, Served
from headrace.engine import Engine
from tests.support.waiting import until


def test_no_error_ends_the_thread_that_follows_the_plan(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    plans: list[tuple[Served, ...]] = []

    def fail_first(rows: tuple[Served, ...]) -> None:
        plans.append(rows)
        if len(plans) == 1:
            raise MemoryError("no room for the version")

    with caplog.at_level(logging.ERROR), PlanFollower(engine, fail_first, poll_s=0.05):
        until(lambda: len(plans) > 2)
    (said,) = [record for record in caplog.records if record.name == "headrace.control.plan"]
    assert said.exc_info and "the serving plan is not followed, trying again" in said.message

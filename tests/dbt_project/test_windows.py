"""Windows of model_performance that an operator adds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from headrace.control import policies
from headrace.engine import Engine
from headrace.events.log import EventLog
from tests.support.oracle import DAY, WINDOWS, Oracle
from tests.support.performance import check_performance
from tests.support.policies import STRETCHES, stretched
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, MODELS, Stream, first_of_each, streams

SEASON = "season=120 days, quarter = 91 days,shift=8 hours,all=400 days"
CUSTOM = {
    "season": (120 * DAY, DAY, 400 * DAY),
    "quarter": (91 * DAY, DAY, 400 * DAY),
    "shift": (8 * 3600, 3600, 400 * DAY),
    "all": (400 * DAY, DAY, 400 * DAY),
}


@pytest.fixture
def log(engine: Engine) -> Iterator[EventLog]:
    with EventLog(engine) as opened:
        yield opened


@settings(EXAMPLES, max_examples=5)
@given(stream=streams(), stretch=STRETCHES)
def test_windows_of_all_models(
    engine: Engine, log: EventLog, stream: Stream, stretch: float
) -> None:
    empty(engine)
    policies.write(engine, "*", {"custom_windows": SEASON})
    stream = stretched(stream, stretch)
    stream.send(log)
    check_performance(engine, Oracle(*first_of_each(stream)), WINDOWS | CUSTOM)


def test_windows_of_one_model(engine: Engine) -> None:
    policies.write(engine, MODELS[0], {"custom_windows": "night=10 hours"})
    policies.write(engine, MODELS[1], {"custom_windows": ""})
    rows = engine.rows("select * from headrace.custom_windows")
    assert rows == [{"model": MODELS[0], "window_name": "night", "seconds": 36_000, "step": 3_600}]

"""How the trainer looks at the trigger view, again and again."""

from __future__ import annotations

import threading
import time

import pytest

from headrace.engine import Engine
from headrace.trainer.watch import REST, Trainer


@pytest.mark.parametrize("took", [0.01, 20.0])
def test_a_slow_view_is_asked_less_often(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, took: float
) -> None:
    class Once(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            self.set()
            return True

    waited: list[float | None] = []
    with Trainer(engine) as trainer:
        clock = [100.0]

        def look() -> bool:
            clock[0] += took
            return False

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "run_once", look)
            patch.setattr(time, "monotonic", lambda: clock[0])
            trainer.watch(Once())
    assert waited == [pytest.approx(max(engine.settings.poll_s, REST * took))]

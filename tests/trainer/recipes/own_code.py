"""What tests of recipes that run the user's code share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from headrace.model.inputs import Example
from headrace.model.recipe import TrainingSet
from tests.trainer.clicks import clicks

EMPTY = Example("", None, {})


def dataset(n: int = 60) -> TrainingSet:
    """Clicks of two classes."""
    return TrainingSet("m", "classification", clicks(n, 1), ("no", "yes"), seed=3)


def no_progress(step: int, steps: int, loss: float | None = None) -> None:
    """Take no notice."""


def eventually(true: Callable[[], bool]) -> bool:
    """Whether it becomes true within 30 seconds."""
    deadline = time.monotonic() + 30
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False

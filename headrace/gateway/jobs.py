"""What waits for the inference thread: requests, and behind them what shadows are asked."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from headrace.control.plan import Served
from headrace.errors import BusyError
from headrace.gateway.answers import Prediction
from headrace.model.inputs import Example

MAX_BATCH, MAX_WAITING = 64, 4_096
# A request waits for the batch of shadows that has begun, so that is small.
MAX_SHADOW_BATCH, MAX_SHADOWS_WAITING = 8, 1_024


@dataclass(frozen=True, eq=False)
class Job:
    """A question to the version that answers `unit`, or to the version `shadow`.

    `passes` asks for so many answers with dropout as well; `queued_at` is of `time.perf_counter`.
    """

    model: str
    example: Example
    unit: str = ""
    shadow: Served | None = None
    passes: int = 0
    future: Future[Prediction] = field(default_factory=Future)
    queued_at: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # a queued job cannot be cancelled


class Jobs:
    """A queue in which requests go before shadows. Threads may share it."""

    def __init__(self) -> None:
        self._requests: deque[Job] = deque()
        self._shadows: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, jobs: Sequence[Job]) -> None:
        """Queue requests, one behind the other; those there is no room for end in a BusyError."""
        with self._changed:
            room = MAX_WAITING - len(self._requests)
            self._requests.extend(jobs[:room])
            self._changed.notify()
        for job in jobs[room:]:
            job.future.set_exception(
                BusyError(f"{MAX_WAITING} predictions are waiting; send again later")
            )

    def offer(self, job: Job) -> bool:
        """Queue what a shadow is asked, unless too much of it waits; return whether it was."""
        with self._changed:
            if len(self._shadows) >= MAX_SHADOWS_WAITING:
                return False
            self._shadows.append(job)
            self._changed.notify()
        return True

    def take(self) -> list[Job]:
        """Wait for jobs and return a batch; an empty one when closed and all requests are taken."""
        with self._changed:
            while not (self._requests or self._shadows or self._closed):
                self._changed.wait()
            if self._requests:
                return _first(self._requests, MAX_BATCH)
            return [] if self._closed else _first(self._shadows, MAX_SHADOW_BATCH)

    def close(self) -> None:
        """Let `take` come to an end; what shadows were asked is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _first(waiting: deque[Job], most: int) -> list[Job]:
    return [waiting.popleft() for _ in range(min(most, len(waiting)))]

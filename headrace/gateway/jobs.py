"""What waits for the inference thread: requests, and behind them what shadows are asked."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime

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

    `passes` asks for so many answers with dropout as well. `known_at` has the views that features
    of the example were looked up in already, and of which time the row of each was; `queued_at` is
    of `time.perf_counter`.
    """

    model: str
    example: Example
    unit: str = ""
    session_id: str | None = None
    known_at: Mapping[str, datetime | None] | None = None
    shadow: Served | None = None
    passes: int = 0
    future: Future[Prediction] = field(default_factory=Future)
    queued_at: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # a queued job cannot be cancelled

    @property
    def entity(self) -> dict[str, str | None]:
        """What the request names, by the join keys of feature views."""
        return {
            "model": self.model,
            "segment": self.example.segment,
            "user_id": self.example.user_id,
            "session_id": self.session_id,
            "item_id": self.example.item_id,
        }


class Jobs:
    """A queue in which requests go before shadows. Threads may share it."""

    def __init__(self) -> None:
        self._requests: deque[Sequence[Job]] = deque()
        self._waiting = 0  # jobs of all requests
        self._shadows: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, requests: Iterable[Sequence[Job]]) -> None:
        """Queue requests, one behind the other; the jobs of one come out in one batch.

        Those of a request that there is no room for end in a BusyError.
        """
        refused: list[Job] = []
        with self._changed:
            for jobs in requests:
                if self._waiting + len(jobs) > MAX_WAITING:
                    refused += jobs
                else:
                    self._requests.append(jobs)
                    self._waiting += len(jobs)
            self._changed.notify()
        for job in refused:
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
        """Wait for jobs and return a batch; an empty one when closed and all requests are taken.

        A batch has MAX_BATCH jobs at most, unless one request alone has more.
        """
        with self._changed:
            while not (self._requests or self._shadows or self._closed):
                self._changed.wait()
            if self._requests:
                batch = [*self._requests.popleft()]
                while self._requests and len(batch) + len(self._requests[0]) <= MAX_BATCH:
                    batch += self._requests.popleft()
                self._waiting -= len(batch)
                return batch
            count = 0 if self._closed else min(MAX_SHADOW_BATCH, len(self._shadows))
            return [self._shadows.popleft() for _ in range(count)]

    def close(self) -> None:
        """Let `take` come to an end; what shadows were asked is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

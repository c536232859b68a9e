"""Which times hold the first and the newest `min_sample` predictions, naively."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from headrace.events.contract import Inference
from tests.support.label_oracle import utc
from tests.support.oracle import hour

HOUR, MONTH = timedelta(hours=1), timedelta(hours=720)


class Samples(NamedTuple):
    """Hours of the first sample, the first and the last, and the time of the newest one's first."""

    first: datetime
    last: datetime
    newest: datetime


def samples(events: Iterable[Inference], min_sample: int) -> Samples | None:
    """The samples of predictions; None where no 30 days hold one."""
    times = sorted(utc(event.event_time) for event in events if event.variant != "shadow")
    hours = [hour(time) for time in times]
    for last in sorted(set(hours)):
        within = [time for time in hours if last - MONTH <= time <= last]
        if len(within) >= min_sample:
            return Samples(within[0], last, times[-min_sample])
    return None


def began(first: datetime, clock: datetime, found: Samples | None) -> datetime:
    """When a model or version began that has its first prediction at `first`."""
    return max(first, found.first if found else clock - MONTH)


def window_from(
    clock: datetime, length: timedelta, fine_from: datetime, found: Samples | None
) -> datetime:
    """Where a current window begins: panes of 10 seconds are kept from `fine_from` on."""
    since = clock - length
    if found is None:
        return min(since, clock - MONTH)
    newest = found.newest.replace(second=found.newest.second // 10 * 10, microsecond=0)
    if newest < fine_from:
        newest = hour(newest)
    return min(since, max(newest, clock - MONTH))

"""The queue of the inference thread."""

from __future__ import annotations

import pytest

from headrace.control.plan import Served
from headrace.errors import BusyError
from headrace.gateway.jobs import MAX_BATCH, MAX_SHADOWS_WAITING, MAX_WAITING, Job, Jobs
from headrace.model.inputs import Example

SHADOW = Served("m", "2", "shadow", 0, "file:///2")


def request() -> Job:
    return Job("m", Example("text"), "unit")


def shadow() -> Job:
    return Job("m", Example("text"), shadow=SHADOW)


def test_requests_go_before_shadows_and_do_not_share_a_batch_with_them() -> None:
    jobs = Jobs()
    asked = [shadow(), shadow()]
    assert all(map(jobs.offer, asked))
    requests = [request() for _ in range(MAX_BATCH + 1)]
    jobs.put([one] for one in requests)
    assert jobs.take() == requests[:MAX_BATCH]
    assert jobs.take() == requests[MAX_BATCH:]
    assert jobs.take() == asked


def test_shadows_beyond_the_bound_are_refused_and_requests_are_not() -> None:
    jobs = Jobs()
    taken = [jobs.offer(shadow()) for _ in range(MAX_SHADOWS_WAITING + 1)]
    assert taken == [True] * MAX_SHADOWS_WAITING + [False]
    jobs.put([[request()]])
    asked = [request() for _ in range(MAX_WAITING)]
    jobs.put([one] for one in asked)
    assert not any(one.future.done() for one in asked[:-1])
    with pytest.raises(BusyError):
        asked[-1].future.result(0)
    taken_before = [one for _ in range(MAX_WAITING // MAX_BATCH) for one in jobs.take()]
    assert taken_before[1:] == asked[:-1]


def test_what_was_requested_before_the_end_is_answered_and_no_shadow_is() -> None:
    jobs = Jobs()
    jobs.offer(shadow())
    last = request()
    jobs.put([[last]])
    jobs.close()
    assert [jobs.take(), jobs.take()] == [[last], []]

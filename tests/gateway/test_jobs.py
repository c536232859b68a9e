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
    for one in requests:
        jobs.put([one])
    assert jobs.take() == requests[:MAX_BATCH]
    assert jobs.take() == requests[MAX_BATCH:]
    assert jobs.take() == asked


def test_shadows_beyond_the_bound_are_refused_and_requests_are_not() -> None:
    jobs = Jobs()
    taken = [jobs.offer(shadow()) for _ in range(MAX_SHADOWS_WAITING + 1)]
    assert taken == [True] * MAX_SHADOWS_WAITING + [False]
    for _ in range(MAX_WAITING):
        jobs.put([request()])
    with pytest.raises(BusyError):
        jobs.put([request()])


def test_what_was_requested_before_the_end_is_answered_and_no_shadow_is() -> None:
    jobs = Jobs()
    jobs.offer(shadow())
    last = request()
    jobs.put([last])
    jobs.close()
    assert [jobs.take(), jobs.take()] == [[last], []]


def test_what_is_asked_together_is_answered_together() -> None:
    jobs = Jobs()
    few, many = [request() for _ in range(3)], [request() for _ in range(MAX_BATCH + 1)]
    for asked in (few, many, few, few):
        jobs.put(asked)
    assert jobs.take() == few
    assert jobs.take() == many
    assert jobs.take() == [*few, *few]

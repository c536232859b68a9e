"""A model whose errors alert, receivers of it, and what the test waits for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.alerting.notices import Notices
from headrace.alerting.receivers import Receiver
from headrace.control.lease import Lease
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from tests.support.policies import set_policies

START = datetime(2024, 6, 1, tzinfo=UTC)


def fail(engine: Engine, errors: int, minutes: int = 0) -> None:
    """Store 100 predictions of which so many failed; 20 alert, none does not."""
    at = (START + timedelta(minutes=minutes)).isoformat()
    event = {"model": "m", "model_version": "v1", "event_time": at}
    failed = [{"error": "timeout"}] * errors
    set_policies(engine, min_sample="10", rollback_window="10 minutes")
    with EventLog(engine) as log:
        log.append(
            "inference",
            [parse("inference", {**event, **one}) for one in [*failed, *[{}] * (100 - errors)]],
        )


def webhook(url: str, **given: Any) -> Receiver:
    return Receiver(kind="webhook", url=url, **given)


@contextmanager
def held(notices: Notices, lease_s: float = 60) -> Iterator[Lease]:
    """The lease of a sender."""
    lease = Lease(notices.writing, "alerts", lease_s)
    assert lease.renew()
    try:
        yield lease
    finally:
        lease.give_back()


def shown(alert: str, subject: str = "", **given: Any) -> dict[str, Any]:
    """A row of ``headrace.alerts``."""
    return {
        "model": "m", "alert": alert, "subject": subject, "state": "firing",
        "severity": "critical", "value": 0.2, "threshold": 0.05, "since": START, **given,
    }  # fmt: skip


def let_pass(engine: Engine, seconds: float) -> None:
    """Have all that is kept of notices be so many seconds older."""
    with engine.connect() as connection:
        connection.execute(
            """
            update control.notices set
                opened_at = opened_at - make_interval(secs => %(s)s),
                gone_at = gone_at - make_interval(secs => %(s)s),
                told_at = told_at - make_interval(secs => %(s)s),
                closed_at = closed_at - make_interval(secs => %(s)s)
            """,
            {"s": seconds},
        )

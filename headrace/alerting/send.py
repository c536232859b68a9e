"""The sender: looks at the alerts, and has a courier for each receiver tell it of them.

A message is kept before it is sent and marked as told afterwards, so a process that is killed in
between sends it once more, with the same id. One process sends at a time (`Lease`).
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

import psycopg

from headrace.alerting.formats import MOST, message
from headrace.alerting.notices import SETTLE_S, Notice, Notices
from headrace.alerting.post import TIMEOUT_S, Answer, Hosts, post
from headrace.alerting.receivers import Receiver, Target, target
from headrace.control.history import note_alerts
from headrace.control.lease import Lease
from headrace.engine import Engine
from headrace.errors import AlertError, EngineError

log = logging.getLogger(__name__)

# Seconds between two looks at the alerts; at least REST times as long as the last one took.
EVERY_S, REST = 30.0, 3
# An Alertmanager is told again after so many seconds, as it forgets what it is not told.
ALERTMANAGER_REPEAT_S = 60.0
# Pauses after a failure: they double, up to the longest, and are cut by up to a half by chance.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
LONGEST_RETRY_AFTER_S = 3600.0
# What a receiver answers to a message that it will never take.
REFUSES = (400, 413, 422)

_ALERTS = """
select model, alert, subject, state, severity, value, threshold, since from headrace.alerts
"""


class Line:
    """The way to one receiver.

    Raises:
        SettingError: a secret is missing, or the host may not be contacted.
    """

    def __init__(
        self, name: str, receiver: Receiver, hosts: Hosts, environ: Mapping[str, str] = os.environ
    ) -> None:
        self.name = name
        self.receiver = receiver
        self._hosts = hosts
        self._target: Target = target(name, receiver, environ)
        hosts.check(self._target.url)

    def tell(self, notices: Sequence[Notice]) -> Answer:
        """Send one message of these notices.

        Raises:
            AlertError: nobody answers, or the host may not be contacted.
        """
        sent = message(self.name, self.receiver, self._target, notices, datetime.now(UTC))
        return post(self._target.url, sent.body, sent.headers, self._hosts)


def lines(
    receivers: Mapping[str, Receiver], listed: str, environ: Mapping[str, str] = os.environ
) -> list[Line]:
    """Return the ways to all receivers; `listed` is the setting ``alert_hosts``.

    Raises:
        SettingError: a secret is missing, or a host may not be contacted.
    """
    hosts = Hosts(listed)
    return [Line(name, receiver, hosts, environ) for name, receiver in receivers.items()]


class Courier:
    """Tells one receiver what is due, on a thread of its own."""

    def __init__(self, line: Line, notices: Notices, lease: Lease) -> None:
        self._line = line
        self._name = line.name
        self._notices = notices
        self._lease = lease
        self._failures = 0
        self._answered: list[Notice] = []  # and not yet kept as told
        self._refused: str | None = None
        self._wake = threading.Event()

    def wake(self) -> None:
        """Look what is due, unless it waits after a failure."""
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then `wake` has to be called."""
        while not stop.is_set():
            try:
                pause = self.step()
            except (EngineError, psycopg.Error) as error:
                log.warning("the database does not answer, trying again: %s", error)
                pause = self._pause()
            except Exception:
                log.exception("telling %s goes on after a pause", self._name)
                pause = self._pause()
            if pause is None:
                self._wake.wait()
                self._wake.clear()
            else:
                stop.wait(pause)

    def step(self) -> float | None:
        """Send one message that is due; return seconds to wait, None until there may be more."""
        self._keep()
        if not self._lease.is_held(for_s=2 * TIMEOUT_S):
            return None
        kind, repeat_s = self._line.receiver.kind, self._line.receiver.repeat_s
        if kind == "alertmanager":
            repeat_s = ALERTMANAGER_REPEAT_S
        due = self._notices.due(self._name, repeat_s, MOST[kind])
        if not due:
            return None
        try:
            answer = self._line.tell(due)
        except AlertError as error:
            return self._fail(due, str(error))
        if answer.status in REFUSES:
            self._refused = f"it refuses the message: HTTP {answer.status}"
            log.error("%s: %s", self._name, self._refused)
        elif not 200 <= answer.status < 300:
            return self._fail(due, f"HTTP {answer.status}", answer.retry_after_s)
        self._answered = due
        self._keep()
        self._failures = 0
        return 0.0

    def _keep(self) -> None:
        if self._answered:
            self._notices.told(self._name, self._answered, self._refused)
            self._answered, self._refused = [], None

    def _fail(self, due: Sequence[Notice], problem: str, at_least_s: float = 0.0) -> float:
        log.warning("%s was not told, trying again: %s", self._name, problem)
        self._notices.failed(self._name, due, problem)
        return max(self._pause(), min(at_least_s, LONGEST_RETRY_AFTER_S))

    def _pause(self) -> float:
        longest = min(FIRST_PAUSE_S * 2.0 ** min(self._failures, 16), LONGEST_PAUSE_S)
        self._failures += 1
        return random.uniform(longest / 2, longest)


class Sender:
    """Tells all receivers of the alerts.

    Args:
        ways: those to the receivers, from `lines`.
        every_s: seconds between two looks at the alerts.
        settle_s: how long an alert is away before it has ended, in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        ways: Sequence[Line],
        *,
        every_s: float = EVERY_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._engine = engine
        self._every_s = every_s
        self._receivers = {line.name: line.receiver for line in ways}
        self._notices = Notices(engine, settle_s)
        lease_s = max(engine.settings.lease_s, 3 * TIMEOUT_S)
        self.lease = Lease(self._notices.writing, "alerts", lease_s)
        self._couriers = [Courier(line, self._notices, self.lease) for line in ways]

    def run(self, stop: threading.Event) -> None:
        """Look and send until `stop` is set, whatever fails meanwhile."""
        with ExitStack() as stack:
            stack.enter_context(self.lease)
            stack.callback(self._end, [_started(each.run, stop) for each in self._couriers])
            while not stop.is_set():
                if not self.lease.is_held():
                    stop.wait(1)
                    continue
                began = time.monotonic()
                try:
                    self._look()
                except (EngineError, psycopg.Error) as error:
                    log.warning("the database does not answer, trying again: %s", error)
                except Exception:
                    log.exception("the sender goes on")
                for courier in self._couriers:
                    courier.wake()
                stop.wait(max(self._every_s, REST * (time.monotonic() - began)))

    def _look(self) -> None:
        note_alerts(self._engine)
        self._notices.note(self._receivers, self._engine.rows(_ALERTS), self.lease)

    def _end(self, threads: Sequence[threading.Thread]) -> None:
        for courier in self._couriers:
            courier.wake()
        for thread in threads:
            thread.join(2 * TIMEOUT_S)


def _started(run: Callable[[threading.Event], None], stop: threading.Event) -> threading.Thread:
    thread = threading.Thread(target=run, args=[stop], name="courier", daemon=True)
    thread.start()
    return thread

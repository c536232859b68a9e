"""What each receiver was told, in ``control.notices``: kept before anything is sent.

It is in a PostgreSQL on every engine; with RisingWave in that of Feast's registry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg.rows import class_row, dict_row

from headrace.alerting.receivers import Receiver
from headrace.control.lease import Lease
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.settings import project_path

# An alert that is away for no longer than this, in seconds, has not ended.
SETTLE_S = 300.0
# For so many seconds a receiver that does not answer is told of an end.
GIVE_UP_S = 86_400.0
# For so many seconds after its end a notice is kept.
KEEP_S = 30 * 86_400.0


@dataclass(frozen=True)
class Notice:
    """One alert from its start to its end, for one receiver.

    Attributes:
        incident: id of it, the same in all messages.
        model, alert, subject, value, threshold: as ``headrace.alerts`` had them last.
        severity: the worst that it had.
        since: by the model's clock.
        opened_at: when it was first seen, by the wall clock.
        ended_at: when it was seen no more; None while it fires.
        times_told: how many messages of it the receiver has had.
    """

    incident: str
    model: str
    alert: str
    subject: str
    severity: str
    value: float
    threshold: float
    since: datetime
    opened_at: datetime
    ended_at: datetime | None = None
    times_told: int = 0

    @property
    def message_id(self) -> str:
        """Id of the message to be sent: the same when it is sent again."""
        return f"{self.incident}-{'end' if self.ended_at else self.times_told}"


class Notices:
    """The table of notices. Methods raise EngineError and psycopg.Error.

    Args:
        settle_s: how long an alert is away before it has ended, in seconds.
    """

    def __init__(self, engine: Engine, settle_s: float = SETTLE_S) -> None:
        self._postgres = engine
        self._settle_s = settle_s
        if engine.dialect.name != "postgres":
            dsn = engine.registry_dsn
            self._postgres = Engine(dsn, replace(engine.settings, engine="postgres", dsn=dsn))
            with self.writing() as connection:
                connection.execute((project_path("sql") / "postgres/009_alerts.sql").read_text())

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction."""
        with self._postgres.writing(row_factory=dict_row) as connection:
            yield connection

    def note(
        self, receivers: Mapping[str, Receiver], shown: Sequence[Mapping[str, Any]], lease: Lease
    ) -> None:
        """Open, change and end notices as the rows of ``headrace.alerts`` say.

        Nothing is written once another process has the lease.
        """
        with self.writing() as connection:
            if not lease.holds(connection):
                return
            moment = connection.execute("select clock_timestamp() as now").fetchone()
            assert moment
            opened = {
                (row["receiver"], _key(row)): row["incident"]
                for row in connection.execute(_OPEN, [list(receivers)])
            }
            found = {_key(row): row for row in shown}
            with connection.cursor() as cursor:
                cursor.executemany(
                    _INSERT,
                    [
                        {**row, "receiver": name, "opened_at": moment["now"],
                         "incident": _incident(key, moment["now"])}
                        for key, row in found.items()
                        if row["state"] == "firing"
                        for name, receiver in receivers.items()
                        if (name, key) not in opened
                        and receiver.wants(row["model"], row["severity"])
                    ],
                )  # fmt: skip
                cursor.executemany(
                    _FOUND,
                    [
                        {**found[key], "receiver": name, "incident": incident}
                        for (name, key), incident in opened.items()
                        if key in found
                    ],
                )
                cursor.executemany(
                    _GONE,
                    [
                        {"receiver": name, "incident": incident}
                        for (name, key), incident in opened.items()
                        if key not in found
                    ],
                )
            connection.execute(_GIVE_UP, [GIVE_UP_S])
            connection.execute(_FORGET, [KEEP_S])

    def due(self, receiver: str, repeat_s: float, most: int) -> list[Notice]:
        """Return what a receiver is to be told now: critical alerts first, then the oldest."""
        given = {
            "receiver": receiver, "repeat_s": repeat_s, "settle_s": self._settle_s, "most": most,
        }  # fmt: skip
        with self._postgres.connect(row_factory=class_row(Notice)) as connection:
            return connection.execute(_DUE, given).fetchall()

    def told(self, receiver: str, notices: Sequence[Notice], problem: str | None = None) -> None:
        """Keep that a receiver was told, or that it refuses to be, with the reason."""
        with self.writing() as connection, connection.cursor() as cursor:
            cursor.executemany(
                _TOLD,
                [
                    {"receiver": receiver, "incident": notice.incident, "problem": problem,
                     "severity": notice.severity, "is_end": notice.ended_at is not None}
                    for notice in notices
                ],
            )  # fmt: skip

    def failed(self, receiver: str, notices: Sequence[Notice], problem: str) -> None:
        """Keep why a receiver could not be told."""
        with self.writing() as connection:
            connection.execute(
                _FAILED, [problem, receiver, [notice.incident for notice in notices]]
            )

    def open(self) -> list[dict[str, Any]]:
        """Return what is not over yet, for all receivers."""
        with self._postgres.connect(row_factory=dict_row) as connection:
            return connection.execute(_LIST).fetchall()


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["model"], row["alert"], row["subject"]


def _incident(key: tuple[str, str, str], opened_at: datetime) -> str:
    text = "\0".join([*key, opened_at.isoformat()])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_OPEN = """
select receiver, incident, model, alert, subject
from control.notices
where receiver = any(%s) and closed_at is null
"""
_INSERT = """
insert into control.notices
    (receiver, incident, model, alert, subject, severity, value, threshold, since, opened_at)
values (
    %(receiver)s, %(incident)s, %(model)s, %(alert)s, %(subject)s, %(severity)s, %(value)s,
    %(threshold)s, %(since)s, %(opened_at)s
)
"""
# One that has become critical is told at once, and stays critical.
_FOUND = """
update control.notices set
    told_at = case when severity <= %(severity)s then told_at end,
    severity = least(severity, %(severity)s),
    value = %(value)s, threshold = %(threshold)s, gone_at = null
where receiver = %(receiver)s and incident = %(incident)s
"""
_GONE = """
update control.notices set gone_at = clock_timestamp()
where receiver = %(receiver)s and incident = %(incident)s and gone_at is null
"""
_GIVE_UP = """
update control.notices set closed_at = clock_timestamp()
where closed_at is null and gone_at < clock_timestamp() - make_interval(secs => %s)
"""
_FORGET = """
delete from control.notices where closed_at < clock_timestamp() - make_interval(secs => %s)
"""
_DUE = """
with settled as (
    select
        *,
        case
            when gone_at <= clock_timestamp() - make_interval(secs => %(settle_s)s) then gone_at
        end as ended_at
    from control.notices
    where receiver = %(receiver)s and closed_at is null
)

select
    incident, model, alert, subject, severity, value, threshold, since, opened_at, ended_at,
    times_told
from settled
where
    ended_at is not null
    or (told_at is null and gone_at is null)
    or told_at <= clock_timestamp() - make_interval(secs => %(repeat_s)s)
order by severity, opened_at, incident
limit %(most)s
"""
# One that has become critical meanwhile is still to be told.
_TOLD = """
update control.notices set
    told_at = case when severity = %(severity)s then clock_timestamp() end,
    times_told = times_told + 1,
    closed_at = case when %(is_end)s then clock_timestamp() end,
    problem = %(problem)s
where receiver = %(receiver)s and incident = %(incident)s and closed_at is null
"""
_FAILED = """
update control.notices set problem = %s where receiver = %s and incident = any(%s)
"""
_LIST = """
select receiver, model, alert, subject, told_at, times_told, problem
from control.notices
where closed_at is null and gone_at is null
order by receiver
"""

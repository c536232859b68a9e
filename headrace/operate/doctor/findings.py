"""The result of a check, and how a check is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

import psycopg

from headrace.errors import HeadraceError, one_line
from headrace.events.contract import MAX_AHEAD

# Clocks further apart than SKEW falsify all measured delays; beyond MAX_AHEAD, events are rejected.
SKEW = timedelta(seconds=2)


@dataclass(frozen=True)
class Finding:
    """One result of a check: how bad it is, what was found, and how to fix it."""

    level: Literal["ok", "warning", "failed"]
    says: str
    do: str = ""
    check: str = ""


Findings = Iterator[Finding]


def ok(says: str) -> Finding:
    return Finding("ok", says)


def warning(says: str, do: str) -> Finding:
    return Finding("warning", says, do)


def failed(says: str, do: str) -> Finding:
    return Finding("failed", says, do)


def run(check: Callable[..., Findings], *arguments: Any) -> Findings:
    """Run one check and name its findings after it; an error is a finding, too."""
    name = check.__name__.removeprefix("check_")
    try:
        for finding in check(*arguments):
            yield replace(finding, check=name)
    except (HeadraceError, psycopg.Error, OSError) as error:
        yield Finding("failed", one_line(error), "fix this, then run headrace doctor again", name)


def clock_skew(ahead: timedelta, clock: str) -> Finding:
    """Judge a clock that is `ahead` of this machine's, or behind it if negative."""
    seconds = ahead.total_seconds()
    says = f"{clock} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
    if abs(ahead) > MAX_AHEAD:
        return failed(says, "run NTP on both: events more than 5 minutes ahead are rejected")
    if abs(ahead) > SKEW:
        return warning(says, "run NTP on both: feedback delays are measured wrongly")
    return ok(says)

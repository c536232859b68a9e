"""What a check finds, and how one is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal

import psycopg

from headrace.errors import HeadraceError, one_line
from headrace.events.contract import MAX_AHEAD

# Clocks that are further apart make every "how late" wrong; by MAX_AHEAD, events are refused.
SKEW = timedelta(seconds=2)


@dataclass(frozen=True)
class Finding:
    """What one check found: how bad it is, what it is, and what to do about it."""

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


def made(check: Callable[..., Findings], *of: Any) -> Findings:
    """Make one check: its findings under its name, and an error as what it found."""
    name = check.__name__.rstrip("_")
    try:
        for found in check(*of):
            yield replace(found, check=name)
    except (HeadraceError, psycopg.Error, OSError) as error:
        yield Finding("failed", one_line(error), "mend this, then ask again", name)


def skewed(ahead: timedelta, whose: str) -> Finding:
    """Judge a clock that is `ahead` of this machine's, or behind it."""
    seconds = ahead.total_seconds()
    says = f"{whose} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
    if abs(ahead) > MAX_AHEAD:
        return failed(says, "run NTP on both: events that are 5 minutes ahead are refused")
    if abs(ahead) > SKEW:
        return warning(says, "run NTP on both: delays of feedback are measured wrongly")
    return ok(says)

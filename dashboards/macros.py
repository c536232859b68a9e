"""What Grafana puts into a panel's SQL before it runs: variables and time macros.

Covers the PostgreSQL macros of Grafana that these panels use, with the same meaning. Anything else
raises, so that no panel works on the page and fails in Grafana, or the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

_VARIABLE = re.compile(
    r"\$\{(?P<braced>\w+)(?::(?P<format>\w+))?\}|\$(?P<name>[A-Za-z_]\w*)(?!\w|\()"
)
_MACRO = re.compile(r"\$(?P<name>\w+)\((?P<arguments>[^)]*)\)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def key_of(model: str) -> str:
    """Return the dashboard's key of a model: the hexadecimal digits of its name in UTF-8.

    A name may contain characters that SQL quoting, macros or link addresses interpret; a key
    cannot. The query of the variable encodes it, and the panels' SQL decodes it.
    """
    return model.encode().hex()


def interpolate(sql: str, variables: Mapping[str, str], start: datetime, end: datetime) -> str:
    """Return `sql` as Grafana would send it for the time range from `start` to `end` (aware).

    As in Grafana, macros are expanded after variables, so also inside their values.

    Raises:
        ValueError: an unknown macro, variable or format; the text names it.
    """

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["name"]
        if name not in variables:
            raise ValueError(f"${name}: no such variable; there are {', '.join(sorted(variables))}")
        return _format(variables[name], match["format"])

    def call(match: re.Match[str]) -> str:
        arguments = [part.strip() for part in match["arguments"].split(",")]
        return _macro(match["name"], arguments, start, end)

    return _MACRO.sub(call, _VARIABLE.sub(value, sql))


def _format(value: str, form: str | None) -> str:
    """Format a variable of one value; the query puts quotes around it."""
    match form:
        case None:
            return value.replace("'", "''")
        case "raw":
            return value
    raise ValueError(f"{form}: no such format; use raw or none")


def _macro(name: str, arguments: list[str], start: datetime, end: datetime) -> str:
    match name, arguments:
        case "__time", [column]:
            return f'{column} AS "time"'
        case "__timeFilter", [column]:
            return f"{column} BETWEEN {_timestamp(start)} AND {_timestamp(end)}"
        case "__timeFrom", [""]:
            return _timestamp(start)
        case "__timeTo", [""]:
            return _timestamp(end)
        case "__timeGroup", [column, interval]:
            return _time_group(column, interval)
        case "__timeGroupAlias", [column, interval]:
            return f'{_time_group(column, interval)} AS "time"'
    raise ValueError(f"${name}({', '.join(arguments)}): no such macro")


def _timestamp(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return f"'{text.replace('+00:00', 'Z')}'"


def _time_group(column: str, interval: str) -> str:
    parts = re.fullmatch(r"'?(\d+)([smhdw])'?", interval)
    if not parts:
        raise ValueError(f"{interval}: must be a number and one of s, m, h, d, w")
    seconds = int(parts[1]) * _SECONDS[parts[2]]
    return f"floor(extract(epoch from {column})/{seconds})*{seconds}"

"""What Grafana puts into a panel's SQL before it runs: variables and time macros.

Speaks the part of Grafana's PostgreSQL macros that these dashboards use, with the same meaning;
anything else raises, so that no panel works in one place and not in the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

_TOKEN = re.compile(
    r"\$__(?P<macro>\w+)\((?P<arguments>[^()]*)\)"
    r"|\$\{(?P<braced>\w+)(?::(?P<format>\w+))?\}"
    r"|\$(?P<name>[A-Za-z_]\w*)"
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def interpolate(sql: str, variables: Mapping[str, str], start: datetime, end: datetime) -> str:
    """Return `sql` as Grafana would send it for the time range from `start` to `end` (aware).

    Raises:
        ValueError: an unknown macro, variable or format; the text names it.
    """

    def replace(match: re.Match[str]) -> str:
        if match["macro"]:
            arguments = [part.strip() for part in match["arguments"].split(",")]
            return _macro(match["macro"], arguments, start, end)
        name = match["braced"] or match["name"]
        if name not in variables:
            raise ValueError(f"${name}: no such variable; there are {', '.join(sorted(variables))}")
        return _format(variables[name], match["format"])

    return _TOKEN.sub(replace, sql)


def _format(value: str, form: str | None) -> str:
    doubled = value.replace("'", "''")
    match form:
        case None:
            return doubled
        case "sqlstring":
            return f"'{doubled}'"
        case "raw":
            return value
    raise ValueError(f"{form}: no such format; there are sqlstring, raw")


def _macro(name: str, arguments: list[str], start: datetime, end: datetime) -> str:
    match name, arguments:
        case "time", [column]:
            return f'{column} AS "time"'
        case "timeFilter", [column]:
            return f"{column} BETWEEN {_timestamp(start)} AND {_timestamp(end)}"
        case "timeFrom", [""]:
            return _timestamp(start)
        case "timeTo", [""]:
            return _timestamp(end)
        case "timeGroup", [column, interval]:
            return _time_group(column, interval)
        case "timeGroupAlias", [column, interval]:
            return f'{_time_group(column, interval)} AS "time"'
    raise ValueError(f"$__{name}({', '.join(arguments)}): no such macro")


def _timestamp(moment: datetime) -> str:
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return f"'{text.replace('+00:00', 'Z')}'"


def _time_group(column: str, interval: str) -> str:
    parts = re.fullmatch(r"'?(\d+)([smhdw])'?", interval)
    if not parts:
        raise ValueError(f"{interval}: must be a number and one of s, m, h, d, w")
    seconds = int(parts[1]) * _SECONDS[parts[2]]
    return f"floor(extract(epoch from {column})/{seconds})*{seconds}"

"""What gateways cannot load is noted while it lasts, and no longer than a gateway lives."""

from __future__ import annotations

from dataclasses import replace

from headrace.control.load_failures import LoadFailures
from headrace.control.plan import Served
from headrace.engine import Engine

BROKEN = Served("m", "2", "champion", 1, "file:///2")


def noted(engine: Engine) -> list[tuple[str, str]]:
    rows = engine.rows("select model_version, error from control.load_failures order by 1, 2")
    return [(row["model_version"], row["error"]) for row in rows]


def test_the_rows_of_a_gateway_are_what_fails_now(either: Engine) -> None:
    other = LoadFailures(Engine(either.dsn, replace(either.settings, port=9)))
    other.note({BROKEN: "elsewhere"})
    failures = LoadFailures(either)
    failures.note({BROKEN: "no folder", replace(BROKEN, model_version="3"): "no folder"})
    failures.note({BROKEN: "no rights"})
    assert noted(either) == [("2", "elsewhere"), ("2", "no rights")]
    # It was killed, and is another process now.
    LoadFailures(either).note({})
    assert noted(either) == [("2", "elsewhere")]
    with either.writing() as connection:
        connection.execute(
            "update control.load_failures set seen_at = now() - interval '2 minutes'"
        )
    LoadFailures(either).note({})
    assert noted(either) == []

"""Changes of a relation, polled and by a subscription, and a query as a DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest
from risingwave.core import extract_rw_version

from headrace.engine import Engine
from headrace.engine.changes import Change, frame, watch
from headrace.errors import EngineError


class EnoughError(Exception):
    """Ends a watch."""


def collect(engine: Engine, relation: str, count: int) -> list[Change]:
    """Return the first changes of a watch."""
    seen: list[Change] = []

    def handle(change: Change) -> None:
        seen.append(change)
        if len(seen) == count:
            raise EnoughError

    with pytest.raises(EnoughError):
        watch(engine, relation, handle, every_s=0)
    return seen


def between_readings(patch: pytest.MonkeyPatch, engine: Engine, *writes: str) -> None:
    """Have each rest of a poll make the next write."""
    left: Iterator[str] = iter(writes)

    def rest(_: float) -> None:
        with engine.connect() as connection:
            connection.execute(next(left))

    patch.setattr("headrace.engine.changes.time.sleep", rest)


def test_a_table_is_polled(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    between_readings(
        monkeypatch,
        engine,
        "insert into control.policies (model, policy, value) values ('m', 'cooldown', '1 day')",
        "select 1",
        "update control.policies set value = '2 days' where model = 'm'",
        "delete from control.policies where model = 'm'",
    )
    seen = collect(engine, "control.policies", 4)
    kinds = [(each.kind, each.row["value"]) for each in seen]
    assert kinds == [
        ("insert", "1 day"), ("delete", "1 day"), ("insert", "2 days"), ("delete", "2 days"),
    ]  # fmt: skip
    assert {each.row["model"] for each in seen} == {"m"}


def test_a_plain_view_is_polled_on_both_engines(
    either: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    between_readings(
        monkeypatch,
        either,
        "insert into control.policies (model, policy, value) values ('m', 'learn', 'on')",
        "insert into events.inference (request_id, event_time, model, model_version, variant) "
        "values ('r', now(), 'm', 'v', 'champion')",
    )
    (seen,) = collect(either, "headrace.retrain_trigger", 1)
    assert seen.kind == "insert" and seen.row["model"] == "m"


def test_an_unknown_relation(engine: Engine) -> None:
    for name in "headrace.nothing", "nothing":
        with pytest.raises(EngineError, match="no such table or view"):
            watch(engine, name, print)


def test_a_frame_has_names_types_and_text_as_it_is(engine: Engine) -> None:
    found = frame(engine, "select 1::bigint as n, ':name 10%' as text, null::text as none")
    assert found.to_dict("records") == [{"n": 1, "text": ":name 10%", "none": None}]
    none = frame(engine, "select model from headrace.model_clock where model = %(m)s", {"m": "?"})
    assert list(none.columns) == ["model"] and none.empty


class Feed(psycopg2.extensions.cursor):  # type: ignore[misc]
    """Stands for RisingWave: PostgreSQL has no subscriptions, and gives what a fetch would."""

    asked: list[str]

    def execute(self, query: str, parameters: Any = None) -> Any:
        self.asked.append(query)
        if query.startswith("FETCH"):
            rows = ", ".join(
                f"('t{number}', '{op}', {number})"
                for number, op in enumerate(["Insert", "UpdateDelete", "UpdateInsert", "Delete"])
            )
            query = f"select * from (values {rows}) as f (trigger_id, op, rw_timestamp)"
        elif query.startswith(("CREATE SUBSCRIPTION", "DECLARE")):
            query = "select 1"
        return super().execute(query, parameters)


def test_a_stored_relation_is_followed_by_its_subscription(
    standin: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the edge of psycopg2: what a RisingWave does with these statements nobody has seen."""
    connect: Callable[..., Any] = psycopg2.connect
    monkeypatch.setattr(Feed, "asked", [], raising=False)
    monkeypatch.setattr(psycopg2, "connect", lambda dsn: connect(dsn, cursor_factory=Feed))
    version = extract_rw_version("PostgreSQL 13.14.0-RisingWave-2.8.4 (x)")
    monkeypatch.setattr("risingwave.core.extract_rw_version", lambda _: version)
    seen = collect(standin, "control.due_triggers", 4)
    assert [(each.kind, each.row) for each in seen] == [
        (kind, {"trigger_id": f"t{number}"})
        for number, kind in enumerate(["insert", "delete", "insert", "delete"])
    ]
    made = [each for each in Feed.asked if each.startswith(("CREATE", "INSERT"))]
    # That of sql/risingwave/after, which is there already.
    (made_once,) = made
    assert made_once.startswith(
        "CREATE SUBSCRIPTION IF NOT EXISTS control.due_triggers_changes FROM control.due_triggers "
    )

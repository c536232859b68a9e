"""Panes are bounded, are replaced without a gap, and labels follow their policies."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.deploy import dbt
from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.oracle import Oracle
from tests.support.project_copy import copy_of_project, replace
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, Stream, first_of_each, send, streams

KINDS = ("label", "click", "rating", "purchase")
_policies = st.fixed_dictionaries(
    {},
    optional={
        kind: st.tuples(
            st.sampled_from(["first", "last", "sum", "max", "majority"]),
            st.integers(0, 2),
            st.sampled_from([1.0, 0.5, -2.0]),
        )
        for kind in KINDS
    },
)


@EXAMPLES
@given(stream=streams(), policies=_policies, late=st.booleans())
def test_labels_follow_their_policies(
    engine: Engine, log: EventLog, stream: Stream, policies: dict[str, Any], late: bool
) -> None:
    """A policy set before the events or after them gives the same labels and metrics."""
    empty(engine)
    with engine.connect() as connection:
        connection.execute("delete from control.label_policies where model != '*'")
        connection.execute(
            "update control.label_policies set wins = 'last', priority = 0, weight = 1"
        )
    if late:
        stream.send(log)
    with engine.connect() as connection:
        for kind, (wins, priority, weight) in policies.items():
            connection.execute(
                "update control.label_policies set wins = %s, priority = %s, weight = %s "
                "where model = '*' and kind = %s",
                [wins, priority, weight, kind],
            )
    if not late:
        stream.send(log)
    oracle = Oracle(*first_of_each(stream), policies=policies)
    rows = engine.rows("select request_id, feedback_id, label, known_at from panes.labels")
    assert {tuple(row.values()) for row in rows} == oracle.labeled_examples()
    rewards = {
        row["request_id"]: row["reward"]
        for row in engine.rows("select request_id, reward from panes.labels")
    }
    wanted = {name: oracle.reward(oracle.inference[name]) for name in oracle.labels}
    assert rewards == pytest.approx(wanted)
    rows = engine.rows("select request_id, raters, agreeing from panes.labels")
    assert {row["request_id"]: (row["raters"], row["agreeing"]) for row in rows} == {
        name: (held.raters, held.agreeing) for name, held in oracle.labels.items()
    }
    (summed,) = engine.rows(
        "select coalesce(sum(examples), 0)::bigint as examples, "
        "coalesce(sum(reward), 0)::double precision as reward "
        "from panes.label_panes where clock = 'label'"
    )
    assert summed["examples"] == len(oracle.labels)
    assert summed["reward"] == pytest.approx(sum(wanted.values()))


def hours(first: int, last: int) -> list[tuple[Topic, Event]]:
    """A prediction and its label every hour, from 2024-01-01 on."""
    events: list[tuple[Topic, Event]] = []
    for number in range(first, last):
        moment = f"2024-01-{1 + number // 24:02d}T{number % 24:02d}:00:05Z"
        asked = {"request_id": f"h{number}", "model": "m", "event_time": moment, "score": 0.5}
        said = {"request_id": f"h{number}", "event_time": moment, "label": "yes"}
        events.append(("inference", parse("inference", {**asked, "features": {"x": number}})))
        events.append(("feedback", parse("feedback", {**said, "feedback_id": f"f{number}"})))
    return events


def fine_rows(engine: Engine) -> dict[str, int]:
    return {
        pane: engine.rows(f"select count(*) as n from panes.{pane} where grain != '1 hour'")[0]["n"]
        for pane in ("inference_panes", "latency_panes", "label_panes")
    }


def test_state_is_bounded(engine: Engine, log: EventLog) -> None:
    for day in range(1, 7):
        send(log, hours(24 * (day - 1), 24 * day))
        with engine.connect() as connection:
            connection.execute("select control.expire()")
        kept = min(24 * day, 49)  # two days back in whole hours
        assert set(fine_rows(engine).values()) == {kept}, day
    held = engine.rows("select count(*) as n from panes.feature_panes where grain = '1 minute'")
    assert held[0]["n"] == 49

    # A late prediction counts in its hour, which is kept, and begins no window without the others.
    late = {"request_id": "late", "model": "m", "event_time": "2024-01-01T05:00:07Z"}
    send(log, [("inference", parse("inference", late))])
    assert set(fine_rows(engine).values()) == {49}
    (row,) = engine.rows(
        "select sum(inferences)::bigint as n from panes.inference_panes where grain = '1 hour'"
    )
    assert row["n"] == 6 * 24 + 1
    windows = engine.rows(
        "select min(window_start) as first, sum(inferences)::bigint as n "
        "from headrace.model_performance where window_name = '1 minute'"
    )
    assert windows[0]["n"] == 49


def test_every_pane_is_bounded(engine: Engine) -> None:
    """What has no retention is small, or waits; but for what lives as long as its events."""
    kept = {row["pane"] for row in engine.rows("select pane from control.retentions")}
    panes = {
        f"panes.{row['tablename']}"
        for row in engine.rows("select tablename from pg_tables where schemaname = 'panes'")
    }
    assert panes - kept == {
        "panes.answered_again", "panes.clocks", "panes.label_arrivals", "panes.label_counts",
        "panes.labels", "panes.model_activity", "panes.prediction_counts",
        "panes.waiting_feedback",
    }  # fmt: skip


def test_what_waits_is_looked_up_before_it_expires(engine: Engine) -> None:
    """Triggers fire in the order of their names: the readers of waiting_feedback come first."""
    rows = engine.rows(
        "select tgname from pg_trigger join pg_proc on pg_proc.oid = tgfoid "
        "where tgrelid = 'events.inference'::regclass and prosrc like '%%panes.waiting_feedback %%'"
    )
    names = sorted(row["tgname"] for row in rows)
    assert names == [
        f"{pane}__events_inference_insert"
        for pane in (
            "feedback_hours",
            "feedback_panes",
            "known_labels",
            "labels",
            "opinions",
            "preferences",
            "waiting_feedback",
        )
    ]


def test_what_a_request_has_is_counted_before_it_is_looked_up(engine: Engine) -> None:
    rows = engine.rows(
        "select tgname from pg_trigger join pg_proc on pg_proc.oid = tgfoid "
        "where tgrelid = 'events.inference'::regclass and prosrc like '%%panes.answered_again %%'"
    )
    readers = [row["tgname"] for row in rows]
    assert len(readers) == 6 and min(readers) > "answered_again__events_inference_insert"


def waiting(number: int) -> list[tuple[Topic, Event]]:
    """Feedback on two predictions that are still to come, the second of which was preferred."""
    when = {"event_time": "2024-01-01T00:00:05Z"}
    first, second = f"first{number}", f"second{number}"
    said: list[dict[str, Any]] = [
        {"feedback_id": f"l{number}", "request_id": first, "label": "yes"},
        {"feedback_id": f"p{number}", "request_id": second, "kind": "preference"}
        | {"rejected_request_id": first},
    ]
    return [("feedback", parse("feedback", {**when, **payload})) for payload in said]


def inferences(*names: str) -> list[tuple[Topic, Event]]:
    when = {"model": "m", "event_time": "2024-01-01T00:00:00Z"}
    return [("inference", parse("inference", {**when, "request_id": name})) for name in names]


def test_what_waits_is_found_whichever_pane_is_made_anew(
    engine: Engine, log: EventLog, tmp_path: Path
) -> None:
    def state() -> list[int]:
        (row,) = engine.rows(
            "select (select count(*) from panes.labels) as labels, "
            "(select count(*) from panes.preferences) as preferences, "
            "(select sum(feedback)::bigint from panes.feedback_panes where grain = 'ever')"
            " as feedback, (select count(*) from panes.waiting_feedback) as waiting, "
            "(select count(*) from headrace.orphan_feedback) as orphans"
        )
        return list(row.values())

    send(log, [*waiting(1), *waiting(2), *waiting(3)])
    send(log, inferences("first1"))
    assert state() == [1, 0, 1, 7, 5]

    project = copy_of_project(tmp_path)
    folder = project / "models/panes"
    pane = folder / "waiting_feedback.sql"
    replace(pane, "    awaiting.kind,\n", "    awaiting.kind,\n    1 as one,\n")
    dbt(engine, "run", "--project-dir", str(project))
    assert state() == [1, 0, 1, 7, 5]
    send(log, inferences("second1", "first2"))
    assert state() == [2, 1, 3, 4, 3]

    # All that read it, and not the pane itself.
    replace(folder / "feedback_panes.sql", "count(*)", "count(feedback_id)")
    replace(folder / "preferences.sql", "where place = 1\n", "where place = 1 and true\n")
    replace(project / "macros/pane/labels.sql", "where rank = 1\n", "where rank = 1 and true\n")
    dbt(engine, "run", "--project-dir", str(project))
    assert state() == [2, 1, 3, 4, 3]
    send(log, inferences("first3", "second2", "second3"))
    assert state() == [3, 3, 6, 0, 0]


def test_a_batch_reads_no_history(engine: Engine) -> None:
    """Also when PostgreSQL plans for any batch, from a statement's sixth execution on."""

    def pairs(first: int, last: int) -> list[tuple[Topic, Event]]:
        names = [f"r{number}" for number in range(first, last)]
        fields = {"model": "m", "segment": "s", "event_time": "2024-01-01T00:00:00Z"}
        return [
            *(("inference", parse("inference", {**fields, "request_id": n})) for n in names),
            *(
                ("feedback", parse("feedback", {"request_id": n, "feedback_id": n, "label": "a"}))
                for n in names
            ),
        ]

    def rows_read() -> int:
        (row,) = engine.rows(
            "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint as read "
            "from pg_stat_user_tables where schemaname = 'events'"
        )
        return int(row["read"])

    history, batches = 5_000, 40
    with EventLog(engine) as log:
        send(log, pairs(0, history))
    with engine.connect() as connection:
        connection.execute("analyze")
    before = rows_read()
    with EventLog(engine) as log:
        for number in range(batches):
            send(log, pairs(history + number, history + number + 1))
    assert rows_read() - before < history


def test_a_changed_pane_takes_over_without_a_gap(
    engine: Engine, log: EventLog, tmp_path: Path
) -> None:
    send(log, hours(0, 60))
    project = copy_of_project(tmp_path)
    labels = project / "models/panes/label_panes.sql"
    replace(
        labels,
        "    count(absolute_error) as measured,\n",
        "    1 as one,\n    count(absolute_error) as measured,\n",
    )
    clock = project / "models/marts/model_clock.sql"
    replace(clock, "    activity.model,\n", "    1 as one,\n    activity.model,\n")
    stop = threading.Event()
    seen: list[Any] = []

    def read() -> None:
        with psycopg.connect(engine.dsn, autocommit=True) as connection:
            while not stop.is_set():
                try:
                    row = connection.execute(
                        "select (select sum(labeled)::bigint from headrace.model_performance "
                        "where window_name = '1 hour'), "
                        "(select count(*) from headrace.labeled_examples), "
                        "(select count(*) from headrace.model_clock)"
                    ).fetchone()
                    seen.append(row)
                except psycopg.Error as error:
                    seen.append(error)
                time.sleep(0.02)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        dbt(engine, "run", "--project-dir", str(project))
        dbt(engine, "run")
    finally:
        stop.set()
        reader.join()
    assert len(seen) > 20
    assert set(map(str, seen)) == {str((60, 60, 1))}
    send(log, hours(60, 62))
    (row,) = engine.rows(
        "select sum(labeled)::bigint as n from headrace.model_performance "
        "where window_name = '1 hour'"
    )
    assert row["n"] == 62
    assert engine.rows("select relname from pg_class where relname like '%%stale%%'") == []

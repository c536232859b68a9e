"""Every view equals a naive recompute over the events, after every batch, in any order."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.log import EventLog
from tests.support.oracle import Oracle
from tests.support.performance import check_performance
from tests.support.stored import COUNTED, empty, ids, pane_names
from tests.support.streams import EXAMPLES, Stream, first_of_each, send, streams


@EXAMPLES
@given(stream=streams())
def test_views_equal_recompute(engine: Engine, log: EventLog, stream: Stream) -> None:
    empty(engine)
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        check(engine, Oracle(*first_of_each(Stream(stream.batches[: number + 1]))))


def check(engine: Engine, oracle: Oracle) -> None:
    examples = engine.rows(
        "select request_id, feedback_id, label, known_at from headrace.labeled_examples"
    )
    assert {tuple(row.values()) for row in examples} == oracle.labeled_examples()
    assert len(examples) == len(oracle.labels)
    assert ids(engine, "request_id", "pending_labels") == sorted(oracle.pending_labels())
    assert ids(engine, "feedback_id", "orphan_feedback") == sorted(oracle.orphan_feedback())
    check_performance(engine, oracle)


@EXAMPLES
@given(stream=streams(), seed=st.integers(0, 2**16))
def test_order_changes_nothing(engine: Engine, log: EventLog, stream: Stream, seed: int) -> None:
    inference, feedback = first_of_each(stream)
    events: list[Any] = [
        *(("inference", event) for event in inference.values()),
        *(("feedback", event) for event in feedback.values()),
    ]
    tables = []
    for shuffled in (False, True):
        if shuffled:
            random.Random(seed).shuffle(events)
        empty(engine)
        send(log, events[: len(events) // 2])
        send(log, events[len(events) // 2 :])
        send(log, events)
        tables.append(
            {name: table(engine, name) for name in pane_names(engine) if name != "label_arrivals"}
        )
    assert tables[0] == tables[1]


def table(engine: Engine, name: str) -> list[str]:
    """Return the rows as text, without what tells only when they came; zero rows are absent."""
    rows = engine.rows(f"select * from panes.{name}")
    kept = []
    for row in rows:
        if name in COUNTED and not any(row[count] for count in COUNTED[name].split(" + ")):
            continue
        kept.append(
            repr({k: v for k, v in row.items() if "ingested" not in k and k != "arrived_at"})
        )
    return sorted(kept)


@EXAMPLES
@given(stream=streams())
def test_panes_equal_their_own_sql(
    engine: Engine, log: EventLog, stream: Stream, compiled: dict[str, str]
) -> None:
    empty(engine)
    stream.send(log)
    assert set(compiled) == set(pane_names(engine))
    for name, query in compiled.items():
        emptied = COUNTED.get(name)
        live = f"where {emptied} != 0" if emptied else ""
        difference = engine.rows(
            f"""
            (select * from panes.{name} {live} except all ({query}))
            union all (({query}) except all select * from panes.{name} {live})
            """
        )
        assert difference == [], name

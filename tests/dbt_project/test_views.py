"""Every view equals a naive recompute over the events, after every batch, in any order."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.log import EventLog
from tests.support.oracle import WINDOWS, Oracle
from tests.support.streams import Stream, first_of_each, send, streams

# Scores are summed in millionths: each of n rows is off by at most half of one.
MICRO = 1e-6
# A quantile is read from a bucket of 1 % relative error.
SKETCH = 0.0101
# A score counts as the middle of its bin: half the width of the widest, 0.0104.
SCORE_BIN = 0.0104 / 2
# What counts the rows of panes that a revision can empty: such a row stays, with zeros.
COUNTED = {
    "arm_panes": "pulls",
    "class_panes": "examples",
    "delay_panes": "labels",
    "endpoint_panes": "labels",
    "item_label_panes": "labels",
    "label_arrivals": "labels",
    "label_counts": "examples",
    "label_panes": "examples",
    "opinion_panes": "opinions",
    "preference_panes": "preferences + ties",
    "segment_label_panes": "labels",
}
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def log(engine: Engine) -> Iterator[EventLog]:
    with EventLog(engine) as opened:
        yield opened


def empty(engine: Engine) -> None:
    tables = engine.rows(
        "select format('%I.%I', schemaname, tablename) as name from pg_tables "
        "where schemaname in ('events', 'panes')"
    )
    with engine.connect() as connection:
        connection.execute("truncate " + ", ".join(row["name"] for row in tables))
        connection.execute("truncate control.horizons")  # what was expired comes anew
        connection.execute(
            "insert into control.policies (model, policy, value) values "
            "('*', 'positive_label', 'yes') "
            "on conflict (model, policy) do update set value = excluded.value"
        )


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


def check_performance(
    engine: Engine, oracle: Oracle, windows: Mapping[str, tuple[int, int, int]] = WINDOWS
) -> None:
    rows = engine.rows("select * from headrace.model_performance")
    expected = oracle.performance(windows)
    names = ("window_name", "window_end", "model", "model_version", "variant")
    actual = {tuple(row[name] for name in names): row for row in rows}
    assert len(actual) == len(rows)
    assert actual.keys() == expected.keys()
    for key, row in actual.items():
        want = expected[key]
        for name in ("inferences", "errors", "labeled", "positives"):
            assert row[name] == want[name], (key, name)
        for name in ("accuracy", "precision", "recall", "f1", "macro_f1", "mean_reward"):
            assert close(row[name], want[name]), (key, name)
        for name in ("rmse", "mae"):
            assert close(row[name], want[name], rel=1e-9), (key, name)
        assert close(row["calibration_error"], want["calibration_error"], abs=SCORE_BIN), key
        for name in ("mean_score", "log_loss", "brier"):
            assert close(row[name], want[name], abs=2 * MICRO), (key, name)
        assert close(row["auc"], want["auc"]), key
        if want["exact_auc"] is not None:
            assert abs(row["auc"] - want["exact_auc"]) <= row["auc_error"] + 1e-12, key
        if "minute" in row["window_name"]:  # classes are kept by the hour
            want["macro_auc"] = want["exact_macro_auc"] = None
        assert close(row["macro_auc"], want["macro_auc"]), key
        assert (row["macro_auc"] is None) is bool(row["macro_auc_null_because"]), key
        if want["exact_macro_auc"] is not None:
            gap = abs(row["macro_auc"] - want["exact_macro_auc"])
            assert gap <= row["macro_auc_error"] + 1e-12, key
        for name in ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms"):
            assert close(row[name], want[name], rel=SKETCH), (key, name)


def close(actual: float | None, wanted: float | None, **tolerance: Any) -> bool:
    if actual is None or wanted is None:
        return actual is wanted
    return bool(actual == pytest.approx(wanted, **tolerance))


def ids(engine: Engine, column: str, view: str) -> list[str]:
    return sorted(row[column] for row in engine.rows(f"select {column} from headrace.{view}"))


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


def pane_names(engine: Engine) -> list[str]:
    rows = engine.rows("select tablename from pg_tables where schemaname = 'panes'")
    return [row["tablename"] for row in rows]


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


@pytest.fixture(scope="session")
def compiled(template: Any) -> dict[str, str]:
    """The compiled SELECT of every pane."""
    home: Path = template.folder.parent
    found = (home / "dbt" / "target" / "compiled").rglob("panes/*.sql")
    return {path.stem: path.read_text().replace('"headrace".', "") for path in found}

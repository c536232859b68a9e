"""Time of every mart as events grow; beside it, ingest at that size and the time to rebuild."""

from __future__ import annotations

import math
import time
from statistics import median
from typing import Any

import psycopg

from benchmarks.load import Rebuild, batches, load, send
from benchmarks.report import machine, milliseconds, say, short, table
from benchmarks.stream import RATE, stream
from headrace.engine import Engine
from headrace.events.contract import Feedback
from headrace.events.log import EventLog

SIZES = (100_000, 1_000_000, 5_000_000)
QUICK_SIZES = (20_000, 100_000)
# At most so many repetitions within so many seconds, and the time limit of a query.
RUNS, RUNS_S, TIMEOUT_S = 7, 5.0, 20
BAR_MS = {"retrain_trigger": 20.0}
OTHER_BAR_MS = 50.0
# Events sent after each load, so that the panes are as ingest leaves them.
BATCH, BATCHES = 1_000, 20

# What people ask of a mart; default: all its rows of one model.
ALL = "select * from headrace.{mart} where model = 'm0'"
_CLOCK = "(select event_clock from headrace.model_clock where model = 'm0')"
_NEWEST = " order by event_time desc limit 100"
QUERIES = {
    # the latest window of each length
    "model_performance": f"{ALL} and window_end > {_CLOCK}",
    "report_rate": f"{ALL} and window_end > {_CLOCK}",
    "flywheel_health": f"{ALL} and day > {_CLOCK} - interval '30 days'",
    # the newest rows
    "labeled_examples": ALL + _NEWEST,
    "pending_labels": ALL + _NEWEST,
    "orphan_feedback": "select * from headrace.{mart}" + _NEWEST,
    "rejected_events": "select * from headrace.{mart} order by ingested_at desc limit 100",
    "conflicting_events": "select * from headrace.{mart} order by ingested_at desc limit 100",
    "late_feedback": f"{ALL} and feedback_time > {_CLOCK} - interval '1 minute'"
    " order by feedback_time desc limit 100",
    "inferences": ALL + _NEWEST,
    "feedback": "select * from headrace.{mart}" + _NEWEST,
    "attributed_feedback": f"{ALL} and feedback_time > {_CLOCK} - interval '1 minute'"
    " order by feedback_time desc limit 100",
    "early_rewards": f"{ALL} and feedback_time > {_CLOCK} - interval '1 minute'",
    # all rows: it has no model
    "ingest_lag": "select * from headrace.{mart}",
    "ingest_horizon": "select * from headrace.{mart}",
    "lost_messages": "select * from headrace.{mart}",
    # one key
    "request_history": ALL + " and request_id = 'r10000'",
    "user_features": ALL + " and user_id = 'u10000'",
    "user_feature_history": ALL + " and user_id = 'u10000'",
    "user_sessions": ALL + " and user_id = 'u10000'",
    "item_features": ALL + " and item_id = 'i500'",
    "item_feature_history": ALL + " and item_id = 'i500'",
    "segment_feature_history": ALL + " and segment = 's0' order by event_timestamp desc limit 100",
}


def run(engine: Engine, quick: bool = False) -> str:
    """Return the tables as Markdown."""
    sizes = QUICK_SIZES if quick else SIZES
    times: dict[str, list[float]] = {}
    plans: dict[str, float] = {}
    rebuilds, ingest = [], []
    for size in sizes:
        loaded = load(engine, size, block=sizes[0])
        rebuilds.append(loaded.rebuild)
        ingest.append(_ingest(engine, size, loaded.waiting))
        with engine.connect() as connection:
            connection.execute(f"set statement_timeout = '{TIMEOUT_S}s'")
            for mart, query in queries(engine).items():
                took = measure(connection, query)
                say(f"views at {short(size)}: {mart} {milliseconds(took)} ms")
                times.setdefault(mart, []).append(took)
                plans[mart] = planning(connection, query)
    over = [mart for mart in times if times[mart][-1] > BAR_MS.get(mart, OTHER_BAR_MS)]
    return "\n".join([
        "# Views\n",
        f"Milliseconds that each mart takes, {' / '.join(map(short, sizes))} predictions in the "
        f"tables and feedback on three in ten. One connection, prepared, rows fetched, median "
        f"of {RUNS} after a first one; planning, which a prepared query needs once, is in a "
        "column of its own. The query is the latest window of each length, the newest 100 rows, "
        "one key, or all "
        f"rows of one model (`QUERIES` in benchmarks/views.py). The first size is "
        f"{sizes[0] / RATE:.0f} s of predictions: longer windows are not full yet. "
        f"Queries are stopped after {TIMEOUT_S} s (inf). "
        f"{machine(engine)}\n",
        f"Bars at {short(sizes[-1])}: {OTHER_BAR_MS:.0f} ms, the trigger "
        f"{BAR_MS['retrain_trigger']:.0f} ms. Over: {', '.join(over) or 'none'}.\n",
        table(
            [
                "mart", *map(short, sizes), f"{short(sizes[-1])} / {short(sizes[0])}", "planning",
                "bar",
            ],
            [_row(mart, times[mart], plans[mart]) for mart in times],
        ),
        "## Ingest and rebuild\n",
        "Ingest: events a second through all views, batches of 1,000, one at a time, median of "
        f"{BATCHES}. Rebuild: seconds until all views are made from the events again (dbt's start "
        "included, four at a time), and the panes that took longest.\n",
        table(
            ["predictions", "ingest, events/s", "rebuild, s", "longest panes, s"],
            [
                (short(size), f"{rate:,.0f}", f"{rebuild.seconds:.0f}", _longest(rebuild))
                for size, rate, rebuild in zip(sizes, ingest, rebuilds, strict=True)
            ],
        ),
    ])  # fmt: skip


def measure(connection: psycopg.Connection[Any], query: str) -> float:
    """Median milliseconds of a prepared query; infinite when it is stopped."""
    times: list[float] = []
    try:
        connection.execute(query, prepare=True).fetchall()
        while len(times) < RUNS and sum(times) < 1_000 * RUNS_S:
            began = time.perf_counter()
            connection.execute(query, prepare=True).fetchall()
            times.append(1_000 * (time.perf_counter() - began))
    except psycopg.errors.QueryCanceled:
        return math.inf
    return median(times)


def planning(connection: psycopg.Connection[Any], query: str) -> float:
    """Milliseconds to plan a query."""
    row = connection.execute(f"explain (summary, format json) {query}").fetchone()
    assert row is not None
    return float(row[0][0]["Planning Time"])


def queries(engine: Engine) -> dict[str, str]:
    """Return what is asked of each mart."""
    rows = engine.rows(
        "select table_name from information_schema.views where table_schema = 'headrace' order by 1"
    )
    marts = [row["table_name"] for row in rows]
    return {mart: QUERIES.get(mart, ALL).format(mart=mart) for mart in marts}


def _ingest(engine: Engine, start: int, waiting: list[Feedback]) -> float:
    """Events a second, batch by batch, behind what is there."""
    seconds = []
    events = stream(BATCH * BATCHES, 1, start, waiting)
    with EventLog(engine) as log:
        for batch in batches(events, BATCH, BATCHES):
            seconds.append(send(log, batch))
    return BATCH / median(seconds)


def _row(mart: str, times: list[float], plan: float) -> tuple[str, ...]:
    bar = BAR_MS.get(mart, OTHER_BAR_MS)
    return (
        f"`{mart}`", *map(milliseconds, times), f"{times[-1] / times[0]:.1f}", milliseconds(plan),
        "PASS" if times[-1] <= bar else "over",
    )  # fmt: skip


def _longest(rebuild: Rebuild) -> str:
    panes = sorted(rebuild.panes, key=lambda pane: -rebuild.panes[pane])[:3]
    return ", ".join(f"{pane} {rebuild.panes[pane]:.0f}" for pane in panes)

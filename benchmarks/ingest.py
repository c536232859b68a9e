"""Ingest through the whole view layer, as a ratio to raw binary COPY of the same rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import psycopg

from benchmarks.load import BLOCK, ORDER, Batch, batches, load, put, send, stage
from benchmarks.report import machine, say, short, table
from benchmarks.stream import stream
from headrace.engine import Engine
from headrace.log import _COLUMNS, EventLog, _encode

# Answers that the tables hold before, and how many batches of which size are sent.
PRELOAD = 200_000
BATCHES = {100: 60, 1_000: 30, 10_000: 12}
QUICK_PRELOAD, QUICK_BATCHES = 20_000, {100: 6, 1_000: 4}
# Triggers that cost less than so many microseconds an event are not listed.
LEAST_US = 0.1
BAR = {1_000: 0.4, 10_000: 0.4}


def run(engine: Engine, quick: bool = False) -> str:
    """Return the table as Markdown."""
    preload = QUICK_PRELOAD if quick else PRELOAD
    sizes = QUICK_BATCHES if quick else BATCHES
    loaded = load(engine, preload, block=min(preload, BLOCK))
    events = stream(10**9, 1, preload, loaded.waiting)
    with engine.connect(autocommit=False) as connection, EventLog(engine) as log:
        _twins(connection)
        rows = []
        for size, count in sizes.items():
            say(f"ingest: {count} batches of {size:,}")
            sent = list(batches(events, size, count + 1))
            _alternate(connection, log, sent[:1])
            raw, ours, encoding = _alternate(connection, log, sent[1:])
            ratio = raw / ours
            rows.append([
                f"{size:,}", f"{size / raw:,.0f}", f"{size / ours:,.0f}", f"{ratio:.2f}",
                f"{(raw - encoding) / ours:.2f}", _verdict(size, ratio),
            ])  # fmt: skip
        spent = costs(connection, list(batches(events, 1_000, 10)))
    return "\n".join([
        "# Ingest\n",
        "Events a second until they are committed, all views included, one batch at a time. Raw is "
        "binary COPY of the same events into tables of the same columns, keys and indexes without "
        "triggers, sent in turn with ours; both encode the events to rows, and the second ratio "
        "is to a COPY that gets them as rows. Commit per batch, fsync on, median of batches. The "
        f"tables hold {short(preload)} answers and their feedback before. {machine(engine)}\n",
        table(
            ["batch", "raw COPY", "whole view layer", "ratio", "ratio, rows ready", "bar"], rows
        ),
        "Where the time goes, batches of 1,000 events, microseconds an event (EXPLAIN ANALYZE, "
        "what a pane starts in other panes included in it):\n",
        table(
            ["statement or trigger", "us"],
            [
                (name, f"{spent[name]:.1f}")
                for name in sorted(spent, key=lambda name: -spent[name])
                if spent[name] >= LEAST_US
            ],
        ),
    ])  # fmt: skip


def _verdict(size: int, ratio: float) -> str:
    if size not in BAR:
        return ""
    return f"{'PASS' if ratio >= BAR[size] else 'under'} ({BAR[size]})"


def _twins(connection: psycopg.Connection[Any]) -> None:
    """Make the tables that raw COPY writes to, with the same rows in them."""
    connection.execute("create schema raw")
    for topic in ORDER:
        connection.execute(f"create table raw.{topic} (like events.{topic} including all)")
        connection.execute(f"insert into raw.{topic} select * from events.{topic}")
    connection.commit()


def _alternate(
    connection: psycopg.Connection[Any], log: EventLog, sent: Sequence[Batch]
) -> tuple[float, float, float]:
    """Send every batch both ways; median seconds of raw COPY, of ours, and of encoding alone."""
    raw: list[float] = []
    ours: list[float] = []
    encoding: list[float] = []
    for number, batch in enumerate(sent):
        for ours_now in (False, True) if number % 2 else (True, False):
            began = time.perf_counter()
            if ours_now:
                send(log, batch)
            else:
                for topic, events in batch:
                    put(connection, topic, events, f"raw.{topic}")
                connection.commit()
            (ours if ours_now else raw).append(time.perf_counter() - began)
        began = time.perf_counter()
        for topic, events in batch:
            for event in events:
                _encode(topic, event)
        encoding.append(time.perf_counter() - began)
    return median(raw), median(ours), median(encoding)


def costs(connection: psycopg.Connection[Any], sent: Sequence[Batch]) -> dict[str, float]:
    """Explain the INSERT of every batch, and take it back: median microseconds an event."""
    spent: dict[str, list[float]] = {}
    for batch in sent:
        size = sum(len(events) for _, events in batch)
        for topic, events in batch:
            stage(connection, topic, events)
            columns = ", ".join(_COLUMNS[topic])
            row = connection.execute(
                f"explain (analyze, format json) insert into events.{topic} ({columns}) "
                f"select {columns} from block_{topic}"
            ).fetchone()
            assert row is not None
            (plan,) = row[0]
            triggers = {one["Trigger Name"]: one["Time"] for one in plan["Triggers"]}
            triggers[f"insert into {topic}"] = plan["Execution Time"] - sum(triggers.values())
            for name, milliseconds in triggers.items():
                spent.setdefault(name.replace("__", " on "), []).append(1_000 * milliseconds / size)
        connection.rollback()
    return {name: median(values) for name, values in spent.items()}

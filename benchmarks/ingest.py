"""Ingest through the whole view layer, as a ratio to raw binary COPY of the same rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

import psycopg

from benchmarks.load import BLOCK, ORDER, Batch, batches, load, put, send, stage
from benchmarks.report import machine, say, short, table
from benchmarks.stream import stream
from headrace.engine import Engine
from headrace.events.log import EventLog
from headrace.events.rows import COLUMNS

# Predictions in the tables before; for each batch size the rounds, and the batches of each.
PRELOAD = 200_000
ROUNDS = {100: (9, 20), 1_000: (15, 10), 10_000: (9, 4)}
QUICK_PRELOAD, QUICK_ROUNDS = 20_000, {100: (2, 5), 1_000: (2, 4)}
# Triggers that cost less than so many microseconds an event are not listed.
LEAST_US = 0.1
BAR = {1_000: 0.4, 10_000: 0.4}


def run(engine: Engine, quick: bool = False) -> str:
    """Return the table as Markdown."""
    preload = QUICK_PRELOAD if quick else PRELOAD
    loaded = load(engine, preload, block=min(preload, BLOCK))
    events = stream(10**9, 1, preload, loaded.waiting)
    with ExitStack() as opened:
        raw = [opened.enter_context(engine.connect(autocommit=False)) for _ in range(2)]
        for schema in ("raw_1", "raw_2"):
            _twins(raw[0], schema)
        rows = []
        for size, (rounds, count) in (QUICK_ROUNDS if quick else ROUNDS).items():
            say(f"ingest: {rounds} times {count} batches of {size:,}")
            sized = Engine(engine.dsn, replace(engine.settings, batch_rows=size))
            with EventLog(sized) as log:
                send(log, *batches(events, size, 2))
                timed = [
                    _round(raw, log, list(batches(events, size, count)), number)
                    for number in range(rounds)
                ]
            one, two, ours = map(median, zip(*timed, strict=True))
            ratio = median(each[0] / each[2] for each in timed)
            to_two = median(each[1] / each[2] for each in timed)
            rows.append([
                f"{size:,}",
                *(f"{size * count / seconds:,.0f}" for seconds in (one, two, ours)),
                f"{ratio:.2f}", f"{to_two:.2f}", _verdict(size, ratio),
            ])  # fmt: skip
        spent = costs(raw[0], list(batches(events, 1_000, 10)))
    return "\n".join([
        "# Ingest\n",
        "Events committed a second, all views included, with more events waiting. "
        "Raw is binary COPY of the same batches, one after the other, into tables of the same "
        "columns, keys and indexes without triggers, over one connection or two, sent in turn "
        "with ours (one after the other, too); all of them encode the events to rows. Commit per "
        "batch, fsync on; medians of rounds, also of each round's ratios to raw over one "
        "connection and over two. The tables "
        f"hold {short(preload)} predictions and their feedback before. {machine(engine)}\n",
        table(
            ["batch", "raw COPY", "over two", "whole view layer", "ratio", "to two", "bar"], rows
        ),
        "Where the time goes, batches of 1,000 events, microseconds an event (EXPLAIN ANALYZE; "
        "a pane includes the panes that it triggers):\n",
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


def _twins(connection: psycopg.Connection[Any], schema: str) -> None:
    """Make the tables that raw COPY writes to, with the same rows in them."""
    connection.execute(f"create schema {schema}")
    for topic in ORDER:
        connection.execute(f"create table {schema}.{topic} (like events.{topic} including all)")
        connection.execute(f"insert into {schema}.{topic} select * from events.{topic}")
    connection.commit()


def _round(
    raw: Sequence[psycopg.Connection[Any]], log: EventLog, sent: Sequence[Batch], first: int
) -> list[float]:
    """Send the batches each way; return seconds of raw over one connection, over two, and ours."""
    ways = [
        lambda: _copied(raw[:1], sent),
        lambda: _copied(raw, sent),
        lambda: send(log, *sent),
    ]
    seconds = [0.0] * len(ways)
    for at in range(len(ways)):
        way = (first + at) % len(ways)
        seconds[way] = ways[way]()
    return seconds


def _copied(connections: Sequence[psycopg.Connection[Any]], sent: Sequence[Batch]) -> float:
    """Copy the batches over these connections, side by side, and return the seconds it took."""

    def copy(first: int) -> None:
        for batch in sent[first :: len(connections)]:
            for topic, events in batch:
                put(connections[first], topic, events, f"raw_{len(connections)}.{topic}")
            connections[first].commit()

    began = time.perf_counter()
    with ThreadPoolExecutor(len(connections)) as pool:
        list(pool.map(copy, range(len(connections))))
    return time.perf_counter() - began


def _shown(trigger: str) -> str:
    """Return "pane on driver"; the prefix `a_` only orders triggers."""
    return trigger.removeprefix("a_").replace("__", " on ")


def costs(connection: psycopg.Connection[Any], sent: Sequence[Batch]) -> dict[str, float]:
    """Explain the INSERT of every batch and roll it back; return median microseconds an event."""
    spent: dict[str, list[float]] = {}
    for batch in sent:
        size = sum(len(events) for _, events in batch)
        for topic, events in batch:
            stage(connection, topic, events)
            columns = ", ".join(COLUMNS[topic])
            row = connection.execute(
                f"explain (analyze, format json) insert into events.{topic} ({columns}) "
                f"select {columns} from block_{topic}"
            ).fetchone()
            assert row is not None
            (plan,) = row[0]
            triggers = {one["Trigger Name"]: one["Time"] for one in plan["Triggers"]}
            triggers[f"insert into {topic}"] = plan["Execution Time"] - sum(triggers.values())
            for name, milliseconds in triggers.items():
                spent.setdefault(_shown(name), []).append(1_000 * milliseconds / size)
        connection.rollback()
    return {name: median(values) for name, values in spent.items()}

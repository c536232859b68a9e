"""Ways into the event tables: batches through the log, and millions with the triggers off."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from benchmarks.report import say, short
from benchmarks.stream import RATE, START, moment, predictions, versions
from headrace.deploy import dbt
from headrace.engine import Engine
from headrace.events.contract import TOPICS, Event, Feedback, Topic
from headrace.events.log import EventLog
from headrace.events.rows import COLUMNS, columns, copy_rows, copy_statement, event_row

BLOCK = 100_000
# Predictions after which no more feedback on one is expected.
LONGEST_WAIT = 1_000_000
# The events of a batch in the order in which the log writes them.
ORDER: tuple[Topic, ...] = ("inference", "feedback")
Batch = list[tuple[Topic, Sequence[Event]]]
# Fields that differ between the copies of a block.
_RENAMED = ("request_id", "feedback_id", "shadow_of", "rejected_request_id")


class Rebuild(msgspec.Struct, frozen=True):
    """Seconds to rebuild all views from the events, and those of each pane's query."""

    seconds: float
    panes: dict[str, float]


class Loaded(msgspec.Struct, frozen=True):
    """What `load` left: the rebuild's times, and the feedback that is still to come."""

    rebuild: Rebuild
    waiting: list[Feedback]


def load(engine: Engine, count: int, block: int = BLOCK) -> Loaded:
    """Replace all events by `count` predictions and the feedback received by their end.

    `predictions` makes the first `block` of them; the others are copies, later and under other ids
    (`count` is a multiple of `block`). Each looks as if ingested when it happened, the last now.
    """
    length = timedelta(seconds=block / RATE)
    copies = count // block
    end = START + copies * length
    since = datetime.now(UTC) - end
    pairs = list(islice(predictions(), block))
    given = [feedback for _, feedback in pairs if feedback]
    with loading(engine) as connection:
        put(connection, "model_events", versions())
        connection.execute("update events.model_events set ingested_at = event_time + %s", [since])
        stage(connection, "inference", [inference for inference, _ in pairs])
        stage(connection, "feedback", given)
        for copy in range(copies):
            if copy % 10 == 0:
                say(f"load {short(count)}: at {short(copy * block)}")
            for topic in ORDER:
                connection.execute(
                    _copied(topic),
                    {"suffix": f"-{copy}", "later": copy * length, "since": since, "end": end},
                )
    waiting = [
        later
        for copy in range(max(0, copies - LONGEST_WAIT // block), copies)
        for later in (_later(feedback, f"-{copy}", copy * length) for feedback in given)
        if moment(later) >= end
    ]
    return Loaded(rebuild(engine), waiting)


def batches(events: Iterator[tuple[Topic, Event]], size: int, count: int) -> Iterator[Batch]:
    """Take `count` batches of `size` events from a stream."""
    for _ in range(count):
        cut = list(islice(events, size))
        yield [(topic, [event for of, event in cut if of == topic]) for topic in ORDER]


def send(log: EventLog, *sent: Batch) -> float:
    """Queue the batches and return the seconds until all of them are acknowledged."""
    began = time.perf_counter()
    receipts = [log.submit(topic, events) for batch in sent for topic, events in batch]
    for receipt in receipts:
        receipt.result()
    return time.perf_counter() - began


@contextmanager
def loading(engine: Engine) -> Iterator[psycopg.Connection[Any]]:
    """Empty the topics; their triggers are off inside the block, which is one transaction."""
    with engine.connect(autocommit=False) as connection:
        for topic in TOPICS:
            connection.execute(f"truncate events.{topic}")
            connection.execute(f"alter table events.{topic} disable trigger user")
        yield connection
        for topic in TOPICS:
            connection.execute(f"alter table events.{topic} enable trigger user")


def put(
    connection: psycopg.Connection[Any], topic: Topic, events: Sequence[Event], table: str = ""
) -> None:
    """COPY events into their topic, or into another table of its columns."""
    rows = [event_row(topic, event) for event in events]
    copy_rows(connection, copy_statement(topic, table), topic, rows)


def stage(connection: psycopg.Connection[Any], topic: Topic, events: Sequence[Event]) -> None:
    """Put events into a temporary table ``block_TOPIC``, which the commit drops."""
    connection.execute(
        f"create temp table block_{topic} (like events.{topic} including defaults) on commit drop"
    )
    put(connection, topic, events, f"block_{topic}")


def rebuild(engine: Engine) -> Rebuild:
    """Rebuild all views from the events, then vacuum and write everything out."""
    maintain(engine, *(f"events.{topic}" for topic in TOPICS))
    say("rebuilding the views")
    began = time.perf_counter()
    dbt(engine, "run", "--full-refresh", "--quiet")
    seconds = time.perf_counter() - began
    results = json.loads((engine.settings.home / "dbt/target/run_results.json").read_bytes())
    panes = {
        result["unique_id"].split(".")[-1]: result["execution_time"]
        for result in results["results"]
        if '"panes"' in (result["relation_name"] or "")
    }
    maintain(engine)
    return Rebuild(seconds, panes)


def maintain(engine: Engine, *tables: str) -> None:
    """Vacuum, analyze and write out the tables (all of them when none is named)."""
    with engine.connect() as connection:
        connection.execute(f"vacuum (analyze) {', '.join(tables)}")
        connection.execute("checkpoint")


def _later(feedback: Feedback, suffix: str, later: timedelta) -> Feedback:
    """Copy one feedback as `_copied` does."""
    renamed = {name: getattr(feedback, name, None) for name in _RENAMED}
    changes = {name: value + suffix for name, value in renamed.items() if value}
    return msgspec.structs.replace(feedback, event_time=moment(feedback) + later, **changes)


def _copied(topic: str) -> sql.Composed:
    values = {
        **{name: f"{name} || %(suffix)s" for name in _RENAMED},
        "event_time": "event_time + %(later)s",
    }
    return sql.SQL(
        "insert into events.{topic} ({columns}, ingested_at) "
        "select {values}, event_time + %(later)s + %(since)s from {block} "
        "where event_time + %(later)s < %(end)s"
    ).format(
        topic=sql.Identifier(topic),
        columns=columns(topic),
        values=sql.SQL(", ".join(values.get(name, name) for name in COLUMNS[topic])),
        block=sql.Identifier(f"block_{topic}"),
    )

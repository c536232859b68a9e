"""Time from a commit until a query of `retrain_trigger` returns it, under a steady stream."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import msgspec
import psycopg

from benchmarks.load import load
from benchmarks.report import machine, milliseconds, quantile, say, short, table
from benchmarks.stream import stream
from headrace.engine import Engine
from headrace.events.contract import Event, Feedback, Inference, Topic
from headrace.events.log import EventLog
from headrace.events.rows import Receipt

PRESENT, QUICK_PRESENT = 1_000_000, 100_000
EVENTS_S, SECONDS, QUICK_SECONDS = 1_000, 40, 5
TICK_S = 0.01
BAR_MS = 100.0
QUERY = "select new_labels from headrace.retrain_trigger where model = 'm0'"


class Sent(msgspec.Struct):
    """Events of one tick: labels of m0 up to and with them, when they were due and committed."""

    labels: int
    due: float
    committed: float = 0.0


class Poll(msgspec.Struct, frozen=True):
    """One reading of the trigger."""

    began: float
    ended: float
    labels: int


def run(engine: Engine, quick: bool = False) -> str:
    """Return the table as Markdown."""
    present = QUICK_PRESENT if quick else PRESENT
    seconds = QUICK_SECONDS if quick else SECONDS
    loaded = load(engine, present)
    say(f"visible: {EVENTS_S:,} events a second for {seconds} s")
    polls: list[Poll] = []
    stop = threading.Event()
    with engine.connect() as connection:
        base = _poll(connection).labels
        worth = _worth(engine, [feedback.request_id for feedback in loaded.waiting])
        reader = threading.Thread(target=_read, args=(connection, polls, stop))
        reader.start()
        sent = _send(engine, stream(EVENTS_S * seconds, 1, present, loaded.waiting), worth)
        time.sleep(1)
        stop.set()
        reader.join()
    after_commit, after_due, missed = [], [], 0
    for before, batch in zip([sent[0], *sent], sent, strict=False):
        # Its labels may be of predictions whose batch was the slower one of two.
        batch.committed = max(batch.committed, before.committed)
        later = [poll for poll in polls if poll.began >= batch.committed]
        missed += later[0].labels < base + batch.labels
        counted = next(poll for poll in later if poll.labels >= base + batch.labels)
        after_commit.append(1_000 * (counted.ended - batch.committed))
        after_due.append(1_000 * (batch.committed - batch.due))
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    bar = "PASS" if quantile(after_commit, 0.99) < BAR_MS else "over"
    return "\n".join([
        "# Visible\n",
        f"{EVENTS_S:,} events a second for {seconds} s, in ticks of {1_000 * TICK_S:.0f} ms, "
        f"beside {short(present)} predictions; `{QUERY}` is read back to back on another "
        f"connection ({len(polls):,} times). Commit to read: from the acknowledgement of a "
        "tick's events to the end of the first reading that began after it and counts its "
        f"labels (readings that began after it and did not: {missed}). "
        "Event to commit: from the moment at which an "
        f"event was due to be sent. {machine(engine)}\n",
        table(
            ["ms", *shares, "bar at p99"],
            [
                (
                    name, *(milliseconds(quantile(times, share)) for share in shares.values()),
                    verdict,
                )
                for name, times, verdict in [
                    ("commit to read", after_commit, f"{bar} ({BAR_MS:.0f})"),
                    ("event to commit", after_due, ""),
                    ("one reading", [1_000 * (poll.ended - poll.began) for poll in polls], ""),
                ]
            ],
        ),
    ])  # fmt: skip


def _worth(engine: Engine, requests: list[str]) -> Counter[str]:
    """Return how many labels of m0 feedback on a request makes, its shadow predictions included."""
    rows = engine.rows(
        """
        select coalesce(shadow_of, request_id) as request_id, count(*) as labels
        from events.inference
        where model = 'm0' and coalesce(shadow_of, request_id) = any(%s)
        group by 1
        """,
        [requests],
    )
    return Counter({row["request_id"]: row["labels"] for row in rows})


def _send(engine: Engine, stream: Iterator[tuple[Topic, Event]], worth: Counter[str]) -> list[Sent]:
    """Send each tick's events when they are due; return the ticks once all are committed."""
    per_tick = round(EVENTS_S * TICK_S)
    events = list(stream)
    labels = 0
    sent, receipts = [], []
    with EventLog(engine) as log:
        began = time.perf_counter()
        for tick, at in enumerate(range(0, len(events), per_tick)):
            inferences: list[Inference] = []
            feedback: list[Feedback] = []
            for _, event in events[at : at + per_tick]:
                if isinstance(event, Inference):
                    inferences.append(event)
                    worth[event.shadow_of or event.request_id] += event.model == "m0"
                elif isinstance(event, Feedback):
                    feedback.append(event)
                    labels += worth[event.request_id] if event.label else 0
            batch = Sent(labels, began + tick * TICK_S)
            sent.append(batch)
            time.sleep(max(0.0, batch.due - time.perf_counter()))
            for receipt in (log.submit("inference", inferences), log.submit("feedback", feedback)):
                receipt.add_done_callback(partial(_committed, batch))
                receipts.append(receipt)
        for receipt in receipts:
            receipt.result()
    return sent


def _committed(batch: Sent, _: Future[list[Receipt]]) -> None:
    batch.committed = time.perf_counter()


def _read(connection: psycopg.Connection[Any], polls: list[Poll], stop: threading.Event) -> None:
    while not stop.is_set():
        polls.append(_poll(connection))


def _poll(connection: psycopg.Connection[Any]) -> Poll:
    began = time.perf_counter()
    row = connection.execute(QUERY, prepare=True).fetchone()
    return Poll(began, time.perf_counter(), row[0] if row else 0)

"""From Kafka into the views: events a second, and the time from sending to reading."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import uuid4

from kafka import KafkaConsumer

from benchmarks.broker import Broker
from benchmarks.load import batches, load, send
from benchmarks.report import machine, milliseconds, quantile, say, short, table
from benchmarks.stream import moment, stream
from headrace.engine import Engine
from headrace.events.contract import Event, Inference
from headrace.events.kafka.connection import client_options
from headrace.events.kafka.ingest import ingest
from headrace.events.kafka.topics import topic_name
from headrace.events.log import EventLog

PRESENT, QUICK_PRESENT = 200_000, 20_000
EVENTS, QUICK_EVENTS = 50_000, 25_000
EVENTS_S, SECONDS, QUICK_SECONDS = 1_000, 30, 5
TICK_S = 0.01
PARTITIONS = 6
QUERY = "select event_clock from headrace.model_clock where model = 'm0'"


def run(engine: Engine, quick: bool = False) -> str:
    """Return the tables as Markdown."""
    present = QUICK_PRESENT if quick else PRESENT
    loaded = load(engine, present, block=min(present, 100_000))
    events = stream(10**9, 1, present, loaded.waiting)
    broker = Broker()
    broker.start()
    try:
        count = QUICK_EVENTS if quick else EVENTS
        topics = _topics(engine, broker.address)
        say(f"kafka: {count:,} events")
        with EventLog(topics) as log:
            produced = send(log, *batches(events, 1_000, count // 1_000))
        consumed = _consume(topics, count)
        stored = _store(topics, count)
        seconds = QUICK_SECONDS if quick else SECONDS
        say(f"kafka: {EVENTS_S:,} events a second for {seconds} s")
        waits = _waits(_topics(engine, broker.address), islice(events, EVENTS_S * seconds))
    finally:
        broker.stop()
    return "\n".join([
        "# Kafka\n",
        f"{count:,} events in {PARTITIONS} partitions a topic, beside {short(present)} "
        "predictions: sent through the log until all are acknowledged, read by a consumer that "
        "does nothing with them, and stored by one `headrace ingest`, all views included. The "
        f"broker is Tansu, in memory, on the same cores. {machine(engine)}\n",
        table(
            ["", "events a second", "relative to reading"],
            [
                (name, f"{count / took:,.0f}", f"{consumed / took:.2f}")
                for name, took in [
                    ("sent", produced), ("read, nothing else", consumed), ("stored", stored)
                ]
            ],
        ),
        f"{EVENTS_S:,} events a second, in ticks of {1_000 * TICK_S:.0f} ms: from when "
        f"a tick is due until `{QUERY}` returns it, ms.\n",
        table(
            ["p50", "p95", "p99"],
            [[milliseconds(quantile(waits, share)) for share in (0.5, 0.95, 0.99)]],
        ),
    ])  # fmt: skip


def _topics(engine: Engine, address: str) -> Engine:
    """Return the engine with new topics."""
    settings = replace(
        engine.settings,
        kafka=address,
        kafka_prefix=f"b{uuid4().hex[:8]}.",
        kafka_partitions=PARTITIONS,
    )
    return Engine(engine.dsn, settings)


def _consume(engine: Engine, count: int) -> float:
    names = [topic_name(engine.settings, topic) for topic in ("inference", "feedback")]
    consumer = KafkaConsumer(
        *names,
        **client_options(engine.settings),
        auto_offset_reset="earliest",
        max_poll_records=10_000,
    )
    read, began = 0, 0.0
    while read < count:
        polled = consumer.poll(timeout_ms=100)
        # From the first message on: finding the brokers is not measured.
        began = began or (time.perf_counter() if polled else 0.0)
        read += sum(map(len, polled.values()))
    took = time.perf_counter() - began
    consumer.close()
    return took


def _store(engine: Engine, count: int) -> float:
    times: list[float] = []
    left = count
    done = threading.Event()

    def report(rows: int) -> None:
        nonlocal left
        left -= rows
        times.append(time.perf_counter())
        if left <= 0:
            done.set()

    with _ingesting(engine, report):
        while not times:
            time.sleep(0.001)
        first = times[0]
        done.wait(600)
    # The first batch is not counted: it waits for the group to be formed.
    return (times[-1] - first) * len(times) / (len(times) - 1)


def _waits(engine: Engine, events: Iterator[Any]) -> list[float]:
    """Send the events when they are due; milliseconds from then until m0's clock has each tick."""
    per_tick = round(EVENTS_S * TICK_S)
    due: list[tuple[float, datetime]] = []
    seen: list[tuple[float, datetime]] = []
    stop = threading.Event()

    def look() -> None:
        with engine.connect() as connection:
            while not stop.is_set():
                row = connection.execute(QUERY, prepare=True).fetchone()
                assert row is not None
                seen.append((time.perf_counter(), row[0]))

    reader = threading.Thread(target=look)
    with _ingesting(engine, lambda _: None), EventLog(engine) as log:
        reader.start()
        first = next(event for _, event in events if _is_of_m0(event))
        log.append("inference", [first])
        while not seen or seen[-1][1] < moment(first):
            time.sleep(TICK_S)
        began = time.perf_counter()
        while tick := list(islice(events, per_tick)):
            at = began + len(due) * TICK_S
            time.sleep(max(0.0, at - time.perf_counter()))
            for topic in ("inference", "feedback"):
                log.submit(topic, [event for of, event in tick if of == topic])
            asked = [moment(event) for _, event in tick if _is_of_m0(event)]
            due.append((at, max(asked, default=due[-1][1] if due else moment(first))))
        while seen[-1][1] < due[-1][1]:
            time.sleep(0.01)
        stop.set()
        reader.join()
    waits, at = [], 0
    for sent, clock in due:
        while seen[at][1] < clock:
            at += 1
        waits.append(1_000 * (seen[at][0] - sent))
    return waits


def _is_of_m0(event: Event) -> bool:
    return isinstance(event, Inference) and event.model == "m0"


@contextmanager
def _ingesting(engine: Engine, report: Any) -> Iterator[None]:
    stopping = threading.Event()
    thread = threading.Thread(target=ingest, args=(engine, stopping, report))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()

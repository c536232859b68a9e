"""Ingest through every pane, as a ratio to raw COPY of the same rows into the same tables."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

from headrace.engine import Engine
from headrace.events import Event, Topic, parse
from headrace.log import _COLUMNS, EventLog, _encode

BATCHES = (100, 1_000, 10_000)
ROWS = 20_000
PROBES = 60


def stream(count: int, prefix: str) -> list[Event]:
    """Make inferences of two models: 6 features, 24 groups, half of them with feedback later."""
    rng = random.Random(prefix)
    start = datetime(2025, 1, 1, tzinfo=UTC)
    return [
        parse(
            "inference",
            {
                "model": f"m{number % 2}",
                "model_version": f"v{number % 3}",
                "request_id": f"{prefix}-{rng.getrandbits(64):x}",
                "event_time": (start + timedelta(seconds=number / 10)).isoformat(),
                "segment": f"s{number % 4}",
                "features": {
                    "amount": rng.lognormvariate(3, 1),
                    "age": rng.randint(18, 90),
                    "ratio": rng.random(),
                    "country": rng.choice(["de", "fr", "it", "es"]),
                    "plan": rng.choice(["a", "b"]),
                    "vip": rng.random() < 0.1,
                },
                "prediction": rng.choice(["yes", "no"]),
                "score": rng.random(),
                "latency_ms": rng.lognormvariate(2, 0.5),
            },
        )
        for number in range(count)
    ]


def opinions(asked: list[Event], rng: random.Random) -> list[Event]:
    return [
        parse(
            "feedback",
            {
                "request_id": event.request_id,  # type: ignore[union-attr]
                "feedback_id": f"f-{event.request_id}",  # type: ignore[union-attr]
                "event_time": event.event_time.isoformat(),  # type: ignore[union-attr]
                "label": rng.choice(["yes", "no"]),
            },
        )
        for event in asked[::2]
    ]


def raw_copy(engine: Engine, topic: Topic, events: list[Event], batch: int) -> float:
    """Seconds to COPY the rows into a table of the same columns and key, commit by commit."""
    table = f"raw_{topic}"
    with engine.connect(autocommit=False) as connection:
        connection.execute(f"drop table if exists {table}")
        connection.execute(f"create table {table} (like events.{topic} including all)")
        connection.commit()
        rows = [_encode(topic, event) for event in events]
        began = time.perf_counter()
        for start in range(0, len(rows), batch):
            columns = ", ".join(_COLUMNS[topic])
            with connection.cursor().copy(f"copy {table} ({columns}) from stdin") as copy:
                for row in rows[start : start + batch]:
                    copy.write_row(row)
            connection.commit()
        return time.perf_counter() - began


def through_panes(engine: Engine, topic: Topic, events: list[Event], batch: int) -> float:
    """Seconds until the last batch is acknowledged, one batch at a time."""
    with EventLog(engine) as log:
        log.append(topic, events[:1])
        began = time.perf_counter()
        for start in range(0, len(events), batch):
            log.append(topic, events[start : start + batch])
        return time.perf_counter() - began


def run(engine: Engine) -> str:
    """Return the table as Markdown."""
    lines = [
        "# Ingest",
        "",
        f"{ROWS:,} inferences, half as many opinions; commit per batch, fsync on; rows a second.",
        "",
        "| batch | raw COPY | through all panes | ratio |",
        "|---:|---:|---:|---:|",
    ]
    for batch in BATCHES:
        count = ROWS if batch > 100 else ROWS // 5
        asked = stream(count, f"b{batch}")
        heard = opinions(asked, random.Random(batch))
        total = len(asked) + len(heard)
        raw = raw_copy(engine, "inference", asked, batch)
        raw += raw_copy(engine, "feedback", heard, batch)
        ours = through_panes(engine, "inference", asked, batch)
        ours += through_panes(engine, "feedback", heard, batch)
        lines.append(f"| {batch:,} | {total / raw:,.0f} | {total / ours:,.0f} | {raw / ours:.2f} |")
    lines += ["", *_visible(engine)]
    return "\n".join(lines) + "\n"


def _visible(engine: Engine) -> list[str]:
    """Time from sending one label to reading the trigger that counts it."""
    times = []
    with EventLog(engine) as log, engine.connect() as connection:
        for number in range(PROBES):
            asked = stream(1, f"probe{number}")
            log.append("inference", asked)
            began = time.perf_counter()
            log.append("feedback", opinions(asked, random.Random(number)))
            connection.execute("select new_labels from headrace.retrain_trigger").fetchall()
            times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return [
        "Label sent to trigger read, with all these rows in place: "
        f"p50 {times[len(times) // 2]:.0f} ms, p95 {times[int(len(times) * 0.95)]:.0f} ms."
    ]

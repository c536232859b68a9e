"""Disk and memory of a million events that came in through the log."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from statistics import mean

from benchmarks.load import batches, send
from benchmarks.report import machine, say, short, table
from benchmarks.stream import stream, versions
from headrace.engine import Engine
from headrace.events.contract import Topic
from headrace.events.log import EventLog
from headrace.events.rows import event_row

EVENTS, QUICK_EVENTS = 1_000_000, 50_000
BATCH = 10_000
# Messages that are measured, and those that are compressed together.
MESSAGES, COMPRESSED = 100_000, 1_000
# Tables below this are in the sum and not listed.
LEAST_BYTES = 200_000
SIZES = """
    select
        nspname || '.' || relname as name,
        reltuples::bigint as rows,
        pg_table_size(tables.oid) as table_size,
        pg_indexes_size(tables.oid) as index_size
    from pg_class as tables
    inner join pg_namespace as schemas on schemas.oid = tables.relnamespace
    where relkind = 'r' and nspname = %s
    order by pg_total_relation_size(tables.oid) desc, name
"""


def run(engine: Engine, quick: bool = False) -> str:
    """Return the tables as Markdown."""
    count = QUICK_EVENTS if quick else EVENTS
    logged = _logged(engine)
    with EventLog(engine) as log:
        log.append("model_events", versions())
        memory = [("before", *_memory(engine))]
        for number, batch in enumerate(batches(stream(count), BATCH, count // BATCH)):
            send(log, batch)
            if number % 10 == 0:
                say(f"storage: {(number + 1) * BATCH:,} events are in")
        memory.append((f"after {short(count)} events", *_memory(engine)))
    logged = _logged(engine) - logged
    with engine.connect() as connection:
        connection.execute("analyze")
    return "\n".join([
        "# Storage\n",
        f"{count:,} events through the log in batches of {BATCH:,}, into an empty database; MB are "
        f"10^6 bytes. They took {_mb(logged)} MB of write-ahead log. {machine(engine)}\n",
        table(
            ["", "rows", "table, MB", "indexes, MB", "MB per million events"],
            [row for schema in ("events", "panes") for row in _sizes(engine, schema, count)],
        ),
        "Keys of a pane of time: rows a model has in one pane, on average.\n",
        table(["pane", "grain", "keys"], _keys(engine)),
        "Messages of these events in Kafka: JSON as Headrace sends it, without the key; "
        f"compressed: {COMPRESSED:,} messages together, by gzip at level 1.\n",
        table(["topic", "of the events", "bytes", "compressed, bytes"], _messages()),
        "Memory, MB resident: the backends that ingest (what is their own, without the shared "
        f"buffers of {_shared_buffers(engine)}), and the sender, which also makes the stream.\n",
        table(["", "backends", "sender"], memory),
    ])  # fmt: skip


def _sizes(engine: Engine, schema: str, count: int) -> list[tuple[str, ...]]:
    """Return lines of a schema's sum and of its tables, the largest first."""
    tables = engine.rows(SIZES, [schema])
    everything = {
        "name": f"all {schema}", "rows": sum(one["rows"] for one in tables),
        "table_size": sum(one["table_size"] for one in tables),
        "index_size": sum(one["index_size"] for one in tables),
    }  # fmt: skip
    return [
        (
            f"**{one['name']}**" if one is everything else f"`{one['name']}`", f"{one['rows']:,}",
            _mb(one["table_size"]), _mb(one["index_size"]),
            _mb((one["table_size"] + one["index_size"]) * 1_000_000 / count),
        )
        for one in [everything, *tables]
        if one["table_size"] + one["index_size"] > LEAST_BYTES
    ]  # fmt: skip


def _keys(engine: Engine) -> list[tuple[str, ...]]:
    """Return the mean rows of a model in one pane of time, by pane and grain."""
    timed = engine.rows(
        """
        select table_name as pane, bool_or(column_name = 'grain') as grained
        from information_schema.columns
        where table_schema = 'panes'
        group by table_name
        having bool_or(column_name = 'pane_start')
        order by table_name
        """
    )
    return [
        (f"`{row['pane']}`", row["grain"], f"{row['keys']:,.1f}")
        for one in timed
        for row in engine.rows(
            f"""
            select
                '{one["pane"]}' as pane,
                {"grain" if one["grained"] else "''"} as grain,
                count(*)::float8 / count(distinct (model, pane_start)) as keys
            from panes.{one["pane"]}
            group by grain
            order by grain
            """
        )
    ]


def _messages() -> list[tuple[str, ...]]:
    """Return the mean bytes of a message by topic, alone and compressed with others."""
    sent: dict[Topic, list[bytes]] = {}
    for topic, event in stream(MESSAGES):
        sent.setdefault(topic, []).append(event_row(topic, event).message())
    return [
        (
            f"`{topic}`", f"{len(each) / MESSAGES:.0%}", f"{mean(map(len, each)):.0f}",
            f"{len(gzip.compress(b''.join(each[:COMPRESSED]), 1)) / COMPRESSED:.0f}",
        )
        for topic, each in sent.items()
    ]  # fmt: skip


def _logged(engine: Engine) -> int:
    """Bytes of write-ahead log so far."""
    (row,) = engine.rows("select pg_current_wal_lsn() - '0/0'::pg_lsn as bytes")
    return int(row["bytes"])


def _shared_buffers(engine: Engine) -> str:
    return str(engine.rows("select current_setting('shared_buffers') as size")[0]["size"])


def _memory(engine: Engine) -> tuple[str, str]:
    """Resident MB of the backends that the log writes through, and of this process."""
    rows = engine.rows("select pid from pg_stat_activity where application_name = 'headrace log'")
    return _resident([row["pid"] for row in rows], "RssAnon"), _resident([os.getpid()], "VmRSS")


def _resident(pids: list[int], name: str) -> str:
    try:
        lines = [
            line
            for pid in pids
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith(name)
        ]
    except OSError:
        return "unknown"
    return _mb(sum(1024 * int(line.split()[1]) for line in lines))


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f}"

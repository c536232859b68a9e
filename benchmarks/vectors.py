"""Vectors of the demo's reports: how near HNSW comes to an exact search, what deletions leave of
it, and how often `embedding_drift` is wrong or finds a change.

Index and exact search take turns on the same queries, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from benchmarks.report import machine, milliseconds, say, table
from headrace.control import policies
from headrace.demo.stream import reports
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.model.text.vectors import shared_embedder
from headrace.vectors.embedder import BATCH

Vectors = NDArray[np.float32]
K = 10
KINDS = ("vector", "halfvec")
# A topic that is planted: reports of plugins of WordPress.
TOPIC = "wordpress"


def run(engine: Engine, quick: bool) -> str:
    """Return the tables as Markdown."""
    rows = reports()[: 1_500 if quick else 12_000]
    texts = [row["text"] for row in rows]
    embedder = shared_embedder("", 64)
    embedder.vectors(texts[:BATCH])
    say(f"embedding {len(texts):,} reports")
    began = time.perf_counter()
    vectors = np.concatenate([embedder.vectors(part) for part in _batches(texts)])
    a_text = (time.perf_counter() - began) / len(texts) * 1_000
    asked = 50 if quick else 300
    found = [
        "# Vectors\n\n"
        f"{machine(engine)}\n\nReports of the demo, {vectors.shape[1]} numbers each, of which "
        f"{asked} are the queries and the others are in the table. One takes {a_text:.1f} ms in "
        f"float32, {BATCH} at a time.\n",
        "## Search\n\nThe index is pgvector's HNSW with its defaults, but for `ef_search` (40) "
        f"where it is named. Recall is the share of the {K} nearest that are found; those of "
        "single precision and an exact search count as the nearest.\n",
        _search(engine, vectors, asked),
        "## Deletions\n\nThe oldest rows are deleted, `halfvec`. Before VACUUM the index still "
        "has them.\n",
        _deletions(engine, vectors, asked),
        "## Drift\n\n`embedding_drift` on sets drawn from the reports: of the same kind, and with "
        f"more that have the word {TOPIC}, which {_share(texts):.0%} of all have.\n",
        _drift(engine, texts, vectors, 60 if quick else 400),
    ]
    return "\n".join(found)


def _search(engine: Engine, vectors: Vectors, asked: int) -> str:
    rows = []
    with engine.connect() as connection:
        for kind in KINDS:
            _fill(connection, kind, vectors[asked:])
            queries = [_text(vector) for vector in vectors[:asked]]
            built = _build(connection, kind)
            size = _one(connection, "select pg_relation_size('nearest')")
            ways = {"exact": 0, "HNSW": 40, "HNSW, ef_search 100": 100}
            for name, ef in ways.items():
                recall, ms, ratio, _ = _measure(connection, kind, queries, vectors, asked, ef)
                rows.append(
                    (
                        f"`{kind}`, {name}",
                        f"{recall:.3f}",
                        milliseconds(ms),
                        f"{ratio:.2f}",
                        f"{size / 2**20:.0f}" if ef else "",
                        f"{built:.1f}" if ef else "",
                    )
                )
    head = ("search", f"recall@{K}", "ms p50", "of exact", "index, MiB", "built in s")
    return table(head, rows)


def _deletions(engine: Engine, vectors: Vectors, asked: int) -> str:
    rows = []
    stored = len(vectors) - asked
    queries = [_text(vector) for vector in vectors[:asked]]
    with engine.connect() as connection:
        for share in (0.5, 0.9):
            _fill(connection, "halfvec", vectors[asked:])
            _build(connection, "halfvec")
            first = int(share * stored)
            connection.execute("delete from embedded where id < %s", [first])
            left = np.concatenate([vectors[:asked], vectors[asked + first :]])
            for when in ("before VACUUM", "after VACUUM"):
                if when == "after VACUUM":
                    began = time.perf_counter()
                    connection.execute("vacuum embedded")
                    when += f" ({time.perf_counter() - began:.1f} s)"
                for scan in ("off", "strict_order"):
                    connection.execute(f"set hnsw.iterative_scan = {scan}".encode())
                    recall, ms, ratio, least = _measure(
                        connection, "halfvec", queries, left, asked, 40, first
                    )
                    rows.append(
                        (
                            f"{share:.0%} deleted, {when}, iterative_scan {scan}",
                            f"{recall:.3f}",
                            least,
                            milliseconds(ms),
                            f"{ratio:.2f}",
                        )
                    )
                connection.execute("reset hnsw.iterative_scan")
    return table(("", f"recall@{K}", f"least found of {K}", "ms p50", "of exact"), rows)


def _fill(connection: psycopg.Connection[Any], kind: str, vectors: Vectors) -> None:
    n = vectors.shape[1]
    connection.execute("drop table if exists embedded")
    connection.execute(
        f"create table embedded (id integer primary key, v {kind}({n}) not null) "
        "with (autovacuum_enabled = off)".encode()
    )
    with connection.cursor() as cursor, cursor.copy("copy embedded from stdin") as copy:
        for row in enumerate(map(_text, vectors)):
            copy.write_row(row)
    connection.execute("analyze embedded")


def _build(connection: psycopg.Connection[Any], kind: str) -> float:
    began = time.perf_counter()
    connection.execute(
        f"create index nearest on embedded using hnsw (v {kind}_cosine_ops)".encode()
    )
    return time.perf_counter() - began


def _measure(
    connection: psycopg.Connection[Any],
    kind: str,
    queries: Sequence[str],
    vectors: Vectors,
    asked: int,
    ef: int,
    first: int = 0,
) -> tuple[float, float, float, int]:
    """Return recall, ms of the median query, its ratio to an exact one's, and the fewest rows."""
    near = vectors[:asked] @ vectors[asked:].T
    nearest = [set((first + np.argsort(-row)[:K]).tolist()) for row in near]
    query = f"select id from embedded order by v <=> %s::{kind} limit {K}"
    times: dict[bool, list[float]] = {True: [], False: []}
    found = 0
    least = K
    for text, expected in zip(queries, nearest, strict=True):
        for exactly in (False, True):
            connection.execute(f"set enable_indexscan = {'off' if exactly else 'on'}".encode())
            connection.execute(f"set enable_seqscan = {'on' if exactly else 'off'}".encode())
            connection.execute(f"set hnsw.ef_search = {ef or 40}".encode())
            began = time.perf_counter()
            rows = connection.execute(query.encode(), [text]).fetchall()
            times[exactly].append((time.perf_counter() - began) * 1_000)
            if exactly != bool(ef):
                found += len(expected & {id for (id,) in rows})
                least = min(least, len(rows))
    own, exact = (statistics.median(times[exactly]) for exactly in (not ef, True))
    return found / K / len(queries), own, own / exact, least


def _drift(engine: Engine, texts: Sequence[str], vectors: Vectors, looks: int) -> str:
    rng = np.random.default_rng(1)
    has_topic = np.array([TOPIC in text.lower() for text in texts])
    share = has_topic.mean()
    of_topic, others = np.flatnonzero(has_topic), np.flatnonzero(~has_topic)

    def drawn(n: int, topic: float) -> Vectors:
        most = rng.binomial(n, topic)
        chosen = [rng.choice(of_topic, most), rng.choice(others, n - most)]
        return np.asarray(vectors[np.concatenate(chosen)])

    rows = []
    for n, more in ((100, 0.0), (1_000, 0.0), (100, 0.3), (1_000, 0.1), (1_000, 0.3)):
        say(f"{looks} looks of {n} vectors, {more:.0%} more of the topic")
        sides = [(drawn(n, share), drawn(n, share + more)) for _ in range(looks)]
        found = _looks(engine, sides)
        p = np.array([row["p_value"] for row in found])
        count = [row["status"] for row in found].count
        rows.append(
            (
                f"{more:+.0%} of the topic" if more else "nothing changed",
                n,
                looks,
                *(f"{(p < alpha).mean():.1%}" for alpha in (0.05, 0.0005)),
                f"{count('moving') / looks:.0%}",
                f"{count('drifted') / looks:.0%}",
            )
        )
    head = ("", "vectors a side", "looks", "p < 0.05", "p < 0.0005", "moving", "drifted")
    return table(head, rows)


def _looks(engine: Engine, sides: Sequence[tuple[Vectors, Vectors]]) -> list[dict[str, Any]]:
    """The row of each pair of reference and current window, each as a model of its own."""
    policies.write(engine, "*", {"min_sample": 1, "drift_window": "1 hour"})
    start = datetime(2024, 5, 1, tzinfo=UTC)
    times = (start, start + timedelta(hours=3))
    names = [f"m{i}" for i in range(len(sides))]
    with engine.connect() as connection:
        connection.execute("truncate events.input_vector_hours")
    with EventLog(engine) as log:
        log.append(
            "inference",
            [
                parse(
                    "inference",
                    {"model": name, "request_id": time.isoformat(), "event_time": time.isoformat()},
                )
                for name in names
                for time in times
            ],
        )
    with (
        engine.connect() as connection,
        connection.cursor() as cursor,
        cursor.copy("copy events.input_vector_hours from stdin") as copy,
    ):
        for name, pair in zip(names, sides, strict=True):
            for time, side in zip(times, pair, strict=True):
                values = side.astype(np.float64)
                sums = (values.sum(0), np.square(values).sum(0))
                arrays = ["{" + ",".join(map(repr, one.tolist())) + "}" for one in sums]
                copy.write_row((name, "b", time, len(side), *arrays))
    return engine.rows("select status, p_value from headrace.embedding_drift")


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[at : at + BATCH] for at in range(0, len(texts), BATCH))


def _share(texts: Sequence[str]) -> float:
    return sum(TOPIC in text.lower() for text in texts) / len(texts)


def _text(vector: Vectors) -> str:
    return f"[{','.join(map(repr, vector.tolist()))}]"


def _one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return row[0]

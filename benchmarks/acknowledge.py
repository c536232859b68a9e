"""How long feedback waits for its answer over HTTP, beside an empty endpoint and raw COPY."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import islice
from statistics import median

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import load
from benchmarks.open_loop import PATH, Sent, copy, post
from benchmarks.report import machine, milliseconds, quantile, say, short, table
from benchmarks.served import cpu_s, empty, gateway, process
from benchmarks.stream import DELAY_S
from headrace.engine import Engine
from headrace.events.contract import Feedback

PRESENT, QUICK_PRESENT = 200_000, 40_000
ROUNDS, QUICK_ROUNDS = 3, 1
SECONDS, QUICK_SECONDS = 5, 2
BAR_MS = 30.0
RAW = "raw.feedback"
# Most connections of raw COPY: PostgreSQL has 60.
RAW_CONNECTIONS = 16
# What the gateway's own histograms say of the same requests.
TOLD = {
    "acknowledged": "headrace_acknowledge_seconds",
    "waited in the log": "headrace_log_wait_seconds",
    "written, views and commit included": "headrace_write_seconds",
}
WAYS = ("gateway", "empty endpoint", "raw COPY")


class Workload(msgspec.Struct, frozen=True):
    """Requests a second, each of `size` events, over so many connections."""

    requests_s: int
    size: int
    connections: int

    def __str__(self) -> str:
        events_s = self.requests_s * self.size
        return f"{events_s:,} events/s, {self.size} a request, {self.connections} connections"


WORKLOADS = (Workload(50, 100, 16), Workload(1_000, 1, 16), Workload(1_000, 1, 64))


class Run(msgspec.Struct, frozen=True):
    """One run of a way: milliseconds, events a second, microseconds of CPU an event."""

    p50: float
    p99: float
    achieved: float
    cpu: float
    cpu_of_sender: float
    told: dict[str, float] = {}  # the gateway's own p99, in milliseconds


def run(engine: Engine, quick: bool = False) -> str:
    """Return the tables as Markdown."""
    present = QUICK_PRESENT if quick else PRESENT
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    load(engine, present, block=min(present, 100_000))
    with engine.connect() as connection:
        connection.execute("create schema raw")
        connection.execute(f"create table {RAW} (like events.feedback including all)")
        connection.execute(f"insert into {RAW} select * from events.feedback")
    others = os.getloadavg()[0]
    found = measure(engine, WAYS, rounds, seconds)
    return "\n".join([
        "# Acknowledge\n",
        "Milliseconds from when a request with feedback was due until its answer, which comes "
        "after the commit. Requests are due at even distances and do not wait for each other. "
        f"The feedback is on predictions that are in the tables ({short(present)}). Sender, "
        "gateway and PostgreSQL (fsync on) share the cores. The empty endpoint is the same "
        "server, reads the body and answers. Raw COPY stores the same events, a transaction a "
        "request, in a table of the same keys and indexes without triggers, over "
        f"{RAW_CONNECTIONS} connections. CPU is microseconds an event, of gateway and database. "
        f"{rounds} rounds of {seconds} s a way, in turns; medians of the rounds, also of each "
        f"round's ratios. The load of the machine was {others:.1f} before. {machine(engine)}\n",
        *(_shown(workload, ways) for workload, ways in found.items()),
    ])  # fmt: skip


def measure(
    engine: Engine, ways: Sequence[str], rounds: int, seconds: int
) -> dict[Workload, dict[str, list[Run]]]:
    """Return what each round of each way took, by workload."""
    events = feedback(engine)
    found: dict[Workload, dict[str, list[Run]]] = {each: {} for each in WORKLOADS}
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as sender,
        process(gateway, engine) as ours,
        process(partial(empty, PATH), engine) as other,
    ):
        warm = _batches(events, 1, 50)
        sender.submit(post, ours[1], _bodies(warm), 0.02, 1).result()
        for number in range(rounds):
            for workload in WORKLOADS:
                say(f"acknowledge, round {number + 1}: {workload}")
                batches = _batches(events, workload.size, workload.requests_s * seconds)
                for at in range(len(ways)):
                    way = ways[(number + at) % len(ways)]
                    measured = _run(engine, sender, way, workload, batches, ours, other)
                    found[workload].setdefault(way, []).append(measured)
    return found


def feedback(engine: Engine) -> Iterator[Feedback]:
    """Make a label for each prediction in the tables that has no feedback, in their order."""
    rng = random.Random(0)
    rows = engine.rows(
        """
        select i.request_id, i.event_time, i.user_id
        from events.inference as i
        where
            i.shadow_of is null
            and not exists (select from events.feedback as f where f.request_id = i.request_id)
        order by i.event_time
        """
    )
    for row in rows:
        yield Feedback(
            feedback_id=f"f-{row['request_id']}",
            request_id=row["request_id"],
            event_time=row["event_time"] + timedelta(seconds=rng.expovariate(1 / DELAY_S)),
            label=rng.choice(["yes", "no"]),
            user_id=row["user_id"],
        )


def _batches(events: Iterator[Feedback], size: int, count: int) -> list[list[Feedback]]:
    return [list(islice(events, size)) for _ in range(count)]


def _bodies(batches: Sequence[Sequence[Feedback]]) -> list[bytes]:
    """Return the bodies of requests; one event is sent as an object."""
    return [msgspec.json.encode(batch if len(batch) > 1 else batch[0]) for batch in batches]


def _run(
    engine: Engine,
    sender: ProcessPoolExecutor,
    way: str,
    workload: Workload,
    batches: list[list[Feedback]],
    ours: tuple[int, str],
    other: tuple[int, str],
) -> Run:
    every_s, over = 1 / workload.requests_s, workload.connections
    ways: dict[str, tuple[list[int], Callable[[], Sent]]] = {
        "gateway": ([ours[0]], partial(post, ours[1], _bodies(batches), every_s, over)),
        "empty endpoint": ([other[0]], partial(post, other[1], _bodies(batches), every_s, over)),
        "raw COPY": ([], partial(copy, engine, RAW, batches, every_s, RAW_CONNECTIONS)),
    }
    servers, send = ways[way]
    before, spent = _told(ours[1]), cpu_s(engine, servers)
    sent = sender.submit(send).result()
    spent = cpu_s(engine, servers) - spent
    count = workload.size * len(batches)
    return Run(
        p50=1_000 * quantile(sent.latencies, 0.5),
        p99=1_000 * quantile(sent.latencies, 0.99),
        achieved=count / sent.seconds,
        cpu=1e6 * spent / count,
        cpu_of_sender=1e6 * sent.cpu_s / count,
        told=p99(before, _told(ours[1])) if way == "gateway" else {},
    )


def _told(url: str) -> dict[str, dict[float, float]]:
    """Return the cumulative counts of the gateway's histograms of feedback, by upper bound."""
    told: dict[str, dict[float, float]] = {name: {} for name in TOLD.values()}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples if family.name in told else ():
            if sample.name.endswith("_bucket") and sample.labels["topic"] == "feedback":
                told[family.name][float(sample.labels["le"])] = sample.value
    return told


def p99(
    before: dict[str, dict[float, float]], after: dict[str, dict[float, float]]
) -> dict[str, float]:
    """Return p99 in milliseconds as PromQL's histogram_quantile: linear within a bucket."""
    found = {}
    for says, name in TOLD.items():
        counts = {bound: count - before[name].get(bound, 0) for bound, count in after[name].items()}
        wanted = 0.99 * max(counts.values())
        low, below = 0.0, 0.0
        for bound, count in sorted(counts.items()):
            if count >= wanted:
                found[says] = 1_000 * (low + (bound - low) * (wanted - below) / (count - below))
                break
            low, below = bound, count
    return found


def _shown(workload: Workload, ways: dict[str, list[Run]]) -> str:
    ours = ways["gateway"]
    rows = []
    for way, runs in ways.items():
        pairs = list(zip(ours, runs, strict=True))
        ratios = [
            median(mine.p50 / its.p50 for mine, its in pairs),
            median(mine.p99 / its.p99 for mine, its in pairs),
        ]
        p99 = median(run.p99 for run in runs)
        verdict = f"{'PASS' if p99 < BAR_MS else 'over'} ({BAR_MS:.0f})" if runs is ours else ""
        rows.append([
            way, f"{median(run.achieved for run in runs):,.0f}",
            milliseconds(median(run.p50 for run in runs)), milliseconds(p99),
            *("" if runs is ours else f"{ratio:.1f}" for ratio in ratios),
            f"{median(run.cpu for run in runs):,.0f}",
            f"{median(run.cpu_of_sender for run in runs):,.0f}",
            verdict,
        ])  # fmt: skip
    told = ", ".join(
        f"{says} {milliseconds(median(run.told[says] for run in ours))}" for says in TOLD
    )
    head = [str(workload), "events/s", "p50", "p99", "ours to it, p50", "p99", "CPU", "sender", ""]
    return f"{table(head, rows)}\n`/metrics` of the gateway, p99 in ms: {told}.\n"

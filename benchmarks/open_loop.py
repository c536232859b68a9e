"""Requests sent when they are due, whatever the answers take, and what they took.

A request that is due while all connections wait for an answer is sent later, and its latency counts
from when it was due: else a server that stalls would stop the clock ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import urlsplit

import msgspec

from benchmarks.load import put
from headrace.engine import Engine
from headrace.events.contract import Feedback

PATH = "/v1/feedback"
HEAD_END = b"\r\n\r\n"
# Before the first request is due: the connections are opened meanwhile.
START_S = 0.5


class Sent(msgspec.Struct):
    """What a run took. Latencies are in seconds, each from when its request was due."""

    latencies: list[float]
    seconds: float  # from when the first was due to the last answer
    cpu_s: float  # of the sender


class Schedule:
    """When requests are due: one every `every_s` seconds. Senders take the next one in turn."""

    def __init__(self, count: int, every_s: float) -> None:
        self.began = time.perf_counter() + START_S
        # An iterator of a list may be shared by threads; a generator may not.
        self._due = iter([(at, self.began + at * every_s) for at in range(count)])
        self._latencies: list[float] = []
        self._cpu = time.process_time()

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return self._due

    def answered(self, due: float) -> None:
        self._latencies.append(time.perf_counter() - due)

    def sent(self) -> Sent:
        """Return what it took, once all senders are done."""
        seconds = time.perf_counter() - self.began
        return Sent(self._latencies, seconds, time.process_time() - self._cpu)


def post(url: str, bodies: Sequence[bytes], every_s: float, connections: int) -> Sent:
    """Post the bodies to the feedback endpoint over so many connections.

    Raises:
        RuntimeError: an answer other than 201.
    """
    return asyncio.run(_post(url, bodies, every_s, connections))


async def _post(url: str, bodies: Sequence[bytes], every_s: float, connections: int) -> Sent:
    place = urlsplit(url)
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: {place.netloc}\r\n"
        "content-type: application/json\r\ncontent-length: "
    ).encode()
    schedule = Schedule(len(bodies), every_s)

    async def send() -> None:
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        with closing(writer):
            for at, due in schedule:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                body = bodies[at]
                writer.write(b"%b%d%b%b" % (head, len(body), HEAD_END, body))
                answer = await reader.readuntil(HEAD_END)
                length = answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                content = await reader.readexactly(int(length))
                schedule.answered(due)
                if not answer.startswith(b"HTTP/1.1 201"):
                    told = f"{answer.splitlines()[0]!r}: {content[:200]!r}"
                    raise RuntimeError(f"{url} answered {told}")

    await asyncio.gather(*(send() for _ in range(connections)))
    return schedule.sent()


def copy(
    engine: Engine, table: str, batches: Sequence[Sequence[Feedback]], every_s: float, over: int
) -> Sent:
    """COPY batches of feedback into a table, each one a transaction, over so many connections."""
    opened = [engine.connect(autocommit=False) for _ in range(over)]
    schedule = Schedule(len(batches), every_s)

    def send(number: int) -> None:
        for at, due in schedule:
            time.sleep(max(0.0, due - time.perf_counter()))
            put(opened[number], "feedback", batches[at], table)
            opened[number].commit()
            schedule.answered(due)

    with ThreadPoolExecutor(over) as pool:
        list(pool.map(send, range(over)))
    for connection in opened:
        connection.close()
    return schedule.sent()

"""Clients of one address, in a process of their own: each sends a request when it has its answer.

``python -m benchmarks.asker`` reads a `Task` from standard input and writes a `Told` to standard
output, both as JSON. A client of httpx would take more of the processor than what is measured.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import msgspec


class Task(msgspec.Struct, frozen=True):
    """What to ask: the bodies in turn, by so many clients.

    What is answered in `warm_s` does not count. Then they go on for `seconds`, and until each of
    them has two answers on average.
    """

    url: str
    bodies: list[dict[str, Any]]
    clients: int
    seconds: float
    warm_s: float = 0.6


class Told(msgspec.Struct, frozen=True):
    """What came back: of each answer its body's place, the milliseconds and what it said.

    `answered` counts those before and after, too.
    """

    places: list[int]
    took_ms: list[float]
    answers: list[msgspec.Raw]
    seconds: float
    answered: int

    @property
    def per_s(self) -> float:
        return len(self.took_ms) / self.seconds


def ask(task: Task) -> Told:
    """Have clients ask, and return what they were told."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.asker"],
        input=msgspec.json.encode(task),
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Told)


class _Clients:
    def __init__(self, task: Task) -> None:
        self._task = task
        where = urlsplit(task.url)
        self._host, self._port = where.hostname, where.port
        head = (
            f"POST {where.path} HTTP/1.1\r\nhost: {where.netloc}\r\n"
            "content-type: application/json\r\ncontent-length: "
        ).encode()
        bodies = [msgspec.json.encode(body) for body in task.bodies]
        self._sent = [b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies]
        self._next = 0
        self._ended = 0.0
        self._answered = 0
        self._found: list[tuple[int, float, bytes]] = []

    async def run(self) -> Told:
        self._begins = time.perf_counter() + self._task.warm_s
        await asyncio.gather(*(self._client() for _ in range(self._task.clients)))
        places, took_ms, answers = zip(*self._found, strict=True)
        seconds = self._ended - self._begins
        said = list(map(msgspec.Raw, answers))
        return Told(list(places), list(took_ms), said, seconds, self._answered)

    async def _client(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        while not self._ended:
            began = time.perf_counter()
            place = self._next = (self._next + 1) % len(self._sent)
            writer.write(self._sent[place])
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            body = await reader.readexactly(int(length))
            ended = time.perf_counter()
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"{head.decode()}{body.decode()}")
            self._answered += 1
            if self._begins <= ended and not self._ended:
                self._found.append((place, (ended - began) * 1000, body))
                enough = len(self._found) >= 2 * self._task.clients
                if enough and ended - self._begins >= self._task.seconds:
                    self._ended = ended
        writer.close()


if __name__ == "__main__":
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_Clients(task).run())))

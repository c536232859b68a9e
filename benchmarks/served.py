"""Servers in processes of their own, and the CPU time that they and the database use."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headrace.engine import Engine
from headrace.engine.embedded import embedded_postgres
from headrace.gateway.guard import Guard
from headrace.gateway.server import Server, serve
from headrace.gateway.wire import respond
from headrace.machine import bind
from headrace.settings import Settings

# Tells the process that waits for it the address of a server that is ready.
Ready = Callable[[str], None]


def gateway(settings: Settings, ready: Ready) -> None:
    """Serve the gateway on a free port."""
    serve(replace(settings, port=0), on_ready=ready)


def empty(path: str, settings: Settings, ready: Ready) -> None:
    """Serve an endpoint that reads the body and answers, with the gateway's server and guard."""

    async def answer(request: Request) -> Response:
        await request.body()
        return respond({"accepted": 0}, 201)

    listener = bind(replace(settings, port=0))
    app = Starlette(
        routes=[Route(path, answer, methods=["POST"])],
        middleware=[Middleware(Guard, settings=settings)],
    )
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    host, port = listener.getsockname()[:2]
    Server(config, lambda: ready(f"http://{host}:{port}")).run([listener])


@contextmanager
def process(server: Callable[[Settings, Ready], None], engine: Engine) -> Iterator[tuple[int, str]]:
    """Run a server in a process of its own; gives its pid and its address."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(server, engine.settings, theirs))
    child.start()
    theirs.close()
    try:
        assert child.pid is not None
        yield child.pid, ours.recv()
    finally:
        child.terminate()
        child.join()


def _serve(server: Callable[[Settings, Ready], None], settings: Settings, pipe: Connection) -> None:
    server(settings, pipe.send)


def cpu_s(engine: Engine, pids: Sequence[int]) -> float:
    """Seconds of CPU that these processes and the embedded PostgreSQL have used (Linux)."""
    server = embedded_postgres(engine.settings)
    postmaster = server.pid()
    ticks = 0
    for pid in {*pids, *server.processes(), *([postmaster] if postmaster else [])}:
        with suppress(OSError):  # it has ended
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            # Backends that ended count in the times of the postmaster's children.
            ticks += sum(map(int, fields[11:15] if pid == postmaster else fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")

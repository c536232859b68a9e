"""A gateway on a free port, in a thread of the test or in a process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from headrace.control.owner import owner_key
from headrace.engine import Engine
from headrace.gateway.app import create_app
from headrace.machine import bind
from headrace.settings import Settings


@contextmanager
def running_gateway(engine: Engine, settings: Settings) -> Iterator[str]:
    """Serve `engine` and give the address; on leaving, stop cleanly."""
    listener = bind(settings)
    config = uvicorn.Config(create_app(engine, settings), log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def owner(settings: Settings) -> dict[str, str]:
    """What whoever may change versions and policies sends."""
    return {"Authorization": f"Bearer {owner_key(settings).value}"}


@contextmanager
def gateway_process(settings: Settings) -> Iterator[tuple[subprocess.Popen[str], str]]:
    program = (
        "from headrace.gateway.server import serve; from headrace.settings import Settings; "
        "serve(Settings.load(), on_ready=lambda url: print(url, flush=True))"
    )
    environment = {
        **os.environ,
        "HEADRACE_DSN": settings.dsn,
        "HEADRACE_PORT": "0",
        "HEADRACE_HOME": str(settings.home),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

"""Run the gateway until it is told to stop."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from headrace.deploy import ready_engine
from headrace.engine import Say
from headrace.gateway.app import create_app
from headrace.machine import bind
from headrace.settings import Settings

FINISH_TIMEOUT_S = 30


def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str], None] | None = None,
    say: Say | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests under way and flush the log.

    `on_ready` is called with the address once requests are taken, `say` with what takes time
    before.

    Raises:
        SettingError: the port is taken, or the host is not an address of this machine.
        EngineError: the database cannot be started or reached.
    """
    with (
        contextlib.closing(bind(settings)) as listener,
        ready_engine(settings, say=say) as engine,
    ):
        config = uvicorn.Config(
            create_app(engine, settings),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=FINISH_TIMEOUT_S,
        )
        host, port = listener.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        Server(config, lambda: on_ready(address) if on_ready else None).run([listener])


class Server(uvicorn.Server):
    """A uvicorn server that returns after a signal, so that its caller can close what it opened."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, *_: object) -> None:
        self.should_exit = True

"""A web server that stands in for receivers of alerts, a path each."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from tests.support.web import Handler, serving


@dataclass(frozen=True)
class Received:
    """One request."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiving:
    """What came, by path, and what is answered: the statuses that are planted, and then 200.

    A status of 0 is no answer until the end; `headers` go with every answer.
    """

    url: str = ""
    planted: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    got: dict[str, list[Received]] = field(default_factory=lambda: defaultdict(list))
    headers: dict[str, str] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    def ids(self, path: str) -> list[str]:
        """Return the ids of the messages that came to a path."""
        return [each.headers["webhook-id"] for each in self.got[path]]


@contextmanager
def receiving() -> Iterator[Receiving]:
    """Answer on a free port of 127.0.0.1 inside the block."""
    state = Receiving()

    class Answers(Handler):
        def do_POST(self) -> None:
            state.got[self.path].append(Received(dict(self.headers), self.body()))
            status = state.planted[self.path].pop(0) if state.planted[self.path] else 200
            if not status:
                state.ended.wait()
                return
            self.send_response(status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Answers)) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield state
        finally:
            state.ended.set()

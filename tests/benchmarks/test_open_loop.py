"""A sender that keeps to its times, and what a gateway's histogram says of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.acknowledge import TOLD, p99
from benchmarks.open_loop import post

ANSWER_S = 0.02


class Slow(BaseHTTPRequestHandler):
    """Answers after ANSWER_S, one connection at a time."""

    protocol_version = "HTTP/1.1"
    status = 201

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(ANSWER_S)
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_request_that_waits_for_an_earlier_answer_has_waited_since_it_was_due(slow: str) -> None:
    sent = post(slow, [b"{}"] * 5, ANSWER_S / 100, 1)
    assert len(sent.latencies) == 5
    # All are due within a twentieth of an answer, so the last one waits for nearly five of them.
    assert sent.latencies == sorted(sent.latencies)
    assert sent.latencies[-1] > 4.9 * ANSWER_S
    assert sent.seconds > 5 * ANSWER_S


def test_an_answer_that_is_no_acknowledgement_ends_the_run(
    slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slow, "status", 429)
    with pytest.raises(RuntimeError, match="429"):
        post(slow, [b"{}"], 0.01, 1)


def test_p99_of_a_histogram_is_of_the_requests_between_two_readings() -> None:
    bounds = (0.01, 0.02, 0.04, float("inf"))
    before = {name: dict.fromkeys(bounds, 1_000.0) for name in TOLD.values()}
    after = {
        name: dict(zip(bounds, (1_050.0, 1_098.0, 1_100.0, 1_100.0), strict=True))
        for name in TOLD.values()
    }
    # 50 up to 10 ms, 48 up to 20, 2 up to 40: the 99th of 100 is the middle one of the last two.
    assert p99(before, after) == dict.fromkeys(TOLD, pytest.approx(30.0))

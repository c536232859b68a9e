"""Only hosts that are allowed are contacted, by the address that was checked, and not for long."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import httpx
import pytest

from headrace.alerting import post as module
from headrace.alerting.post import Hosts, post
from headrace.errors import AlertError, SettingError
from tests.support.receiving import Receiving

PUBLIC, PRIVATE = "93.184.216.34", "10.1.2.3"


def resolving(monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> None:
    """Have names mean addresses; `_` stands for a dot."""
    known = {name.replace("_", "."): found for name, found in names.items()}

    def look_up(host: str, port: int | None, **_: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("listed", "url", "address"),
    [
        ("a.example", "https://a.example/x", PUBLIC),
        ("A.Example, b.example", "https://a.example./x", PUBLIC),
        ("a.example", "https://b.example/", None),
        ("example", "https://a.example/", None),
        ("a.example", "http://a.example/", None),  # not encrypted
        (f"a.example,{PUBLIC}", "http://a.example/", PUBLIC),
        ("inner.example", "https://inner.example/", None),
        ("inner.example,10.0.0.0/8", "https://inner.example/", PRIVATE),
        ("inner.example,10.0.0.0/8", "http://inner.example/", PRIVATE),
        ("both.example", "https://both.example/", PUBLIC),
        ("mapped.example", "https://mapped.example/", None),
        ("none.example", "https://none.example/", None),
        ("", f"https://{PUBLIC}/", None),
        ("a.example", f"https://{PUBLIC}/", None),
        ("127.0.0.1", "http://127.0.0.1:9093/", "127.0.0.1"),
        ("127.0.0.1", "http://127.0.0.2/", None),
        ("fd00::/8", "http://[fd00::1]:9093/", "fd00::1"),
        ("fd00::/8", "http://[::1]/", None),
        ("10.0.0.0/8", "http://[::ffff:10.0.0.1]/", "10.0.0.1"),
        ("localhost", "https://localhost/", None),
    ],
)
def test_what_may_be_contacted(
    listed: str, url: str, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(
        monkeypatch, a_example=[PUBLIC], a_example_=[PUBLIC], inner_example=[PRIVATE],
        both_example=[PRIVATE, PUBLIC], mapped_example=[f"::ffff:{PRIVATE}", "169.254.169.254"],
        localhost=["127.0.0.1", "::1"], b_example=[PUBLIC],
        **{each.replace(".", "_"): [each] for each in (PUBLIC, "127.0.0.1", "127.0.0.2")},
        **{each: [each] for each in ("fd00::1", "::1", "::ffff:10.0.0.1")},
    )  # fmt: skip
    hosts = Hosts(listed)
    if address:
        assert hosts.look_up(httpx.URL(url)) == address
    else:
        with pytest.raises(AlertError):
            hosts.look_up(httpx.URL(url))


@pytest.mark.parametrize("listed", ["https://a.example", "a.example:443", "10.0.0.1/8", "a b", "*"])
def test_what_is_no_host_is_refused(listed: str) -> None:
    with pytest.raises(SettingError, match="HEADRACE_ALERT_HOSTS: must be names"):
        Hosts(listed)


def test_a_name_that_changes_its_meaning_reaches_nothing_else(
    web: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was checked is connected to; the name is what the server is told."""
    url = httpx.URL(web.url).copy_with(host="alerts.example", path="/in")
    resolving(monkeypatch, alerts_example=["127.0.0.1"])
    with pytest.raises(AlertError, match="may not be contacted"):
        post(url, b"{}", {}, Hosts("alerts.example"))
    assert not web.got
    asked: list[str] = []
    known = socket.getaddrinfo

    def once(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return known(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    assert post(url, b"{}", {}, Hosts("alerts.example,127.0.0.0/8")).status == 200
    assert asked.count("alerts.example") == 1
    (came,) = web.got["/in"]
    assert came.headers["Host"] == f"alerts.example:{url.port}" and came.body == b"{}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_an_answer_and_not_followed(web: Receiving, status: int) -> None:
    web.headers = {"Location": f"{web.url}/elsewhere"}
    web.planted["/in"] = [status]
    answer = post(httpx.URL(f"{web.url}/in"), b"{}", {}, Hosts("127.0.0.1"))
    assert answer.status == status
    assert [*web.got] == ["/in"]


def test_how_long_to_wait_is_read(web: Receiving) -> None:
    for text, seconds in (("120", 120), ("soon", 0), ("-3", 0)):
        web.planted["/in"] = [429]
        web.headers = {"Retry-After": text}
        answer = post(httpx.URL(f"{web.url}/in"), b"{}", {}, Hosts("127.0.0.1"))
        assert (answer.status, answer.retry_after_s) == (429, seconds)


def test_no_answer_and_a_slow_one_end_in_time_and_without_a_secret(
    web: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.4)
    web.planted["/secret"] = [0]
    with pytest.raises(AlertError, match="did not answer") as hung:
        post(httpx.URL(f"{web.url}/secret"), b"{}", {}, Hosts("127.0.0.1"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = threading.Event()

        def drip() -> None:
            peer, _ = server.accept()
            with peer, suppress(OSError):
                peer.sendall(b"HTTP/1.1 200 OK\r\n")
                while not done.wait(0.05):
                    peer.sendall(b"X: y\r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(AlertError, match="did not answer") as slow:
                post(httpx.URL(f"http://127.0.0.1:{port}/secret"), b"{}", {}, Hosts("127.0.0.1"))
        finally:
            done.set()
            thread.join()
    with pytest.raises(AlertError, match="cannot be reached: ConnectError") as closed:
        post(httpx.URL(f"http://127.0.0.1:{port}/secret"), b"{}", {}, Hosts("127.0.0.1"))
    for caught in (hung, slow, closed):
        assert "secret" not in str(caught.value) and caught.value.__cause__ is None

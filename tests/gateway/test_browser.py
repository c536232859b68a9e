"""A page of another site in a real browser, which tries all that a page can."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.engine import Engine
from tests.gateway.changes import CHANGES, untouched
from tests.support.web import Handler, serving

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")

# Each of the ways in which a page sends a body; `told` is what it may find out by that.
PAGE = """<!doctype html><body><script>
const changes = CHANGES, target = "TARGET", told = [];
const attempt = async (what, ask) => {
  try {
    const answer = await ask();
    if (answer && answer.type !== "opaque") told.push([what, answer.status, await answer.text()]);
  } catch (error) { /* the browser tells nothing */ }
};
const json = {"Content-Type": "application/json"};
const form = (path, body) => {
  const frame = document.createElement("iframe");
  frame.name = "f" + Math.random();
  document.body.append(frame);
  const sent = document.createElement("form");
  sent.method = "post"; sent.enctype = "text/plain"; sent.target = frame.name;
  sent.action = target + path;
  const field = document.createElement("input");
  const [head, tail] = [body.slice(0, -1) + ', "reason": "', '"}'];
  field.name = head; field.value = tail;
  sent.append(field);
  document.body.append(sent);
  const loaded = new Promise(done => { frame.onload = done; setTimeout(done, 2000); });
  sent.submit();
  return loaded.then(() => {});
};
(async () => {
  for (const [method, path, body] of changes) {
    const text = JSON.stringify(body), url = target + path;
    for (const kind of ["text/plain", "application/json", "application/x-www-form-urlencoded"])
      await attempt("no-cors", () => fetch(url, {
        method: "POST", mode: "no-cors", credentials: "include", body: text,
        headers: {"Content-Type": kind}}));
    const blob = new Blob([text], {type: "application/json"});
    await attempt("blob", () => fetch(url, {method: "POST", mode: "no-cors", body: blob}));
    await attempt("cors", () => fetch(url, {method, headers: json, body: text}));
    await attempt("plain", () => fetch(url, {method: "POST", body: text}));
    await attempt("beacon", async () => { navigator.sendBeacon(url, blob); });
    await attempt("beacon", async () => { navigator.sendBeacon(url, text); });
    await attempt("beacon", async () => { navigator.sendBeacon(url, new Blob([text])); });
    await attempt("form", () => form(path, text));
  }
  for (const path of ["/v1/plan", "/", "/metrics", "/v1/models/m/policies"])
    await attempt("read", () => fetch(target + path));
  await fetch("/told", {method: "POST", body: JSON.stringify(told)});
})();
</script>"""


class Site(ThreadingHTTPServer):
    """Another site: it serves a page, and keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Visited)
        self.page = ""
        self.sent: list[tuple[str, str, bytes]] = []
        self.told = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Visited(Handler):
    server: Site

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.server.page.encode())

    def do_POST(self) -> None:
        self.server.sent.append((self.path, self.headers.get("Content-Type", ""), self.body()))
        self.send_response(204)
        self.end_headers()
        if self.path == "/told":
            self.server.told.set()


def browse(url: str, home: Path, *more: str) -> subprocess.Popen[str]:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
             "--disable-background-networking", f"--user-data-dir={home}"]  # fmt: skip
    return subprocess.Popen(
        [CHROMIUM, *flags, *more, url],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def visit(target: str, tmp_path: Path) -> list[tuple[str, int, str]]:
    """Have a browser open another site's page that attacks `target`; return what the page read."""
    with serving(Site()) as other:
        other.page = PAGE.replace("CHANGES", json.dumps(CHANGES)).replace("TARGET", target)
        browser = browse(other.url, tmp_path / "chromium", "--remote-debugging-port=0")
        try:
            assert other.told.wait(120)
        finally:
            browser.kill()
            browser.communicate()
        told: list[Any] = json.loads(other.sent[-1][2])
        return [(what, status, text) for what, status, text in told]


def test_a_page_of_another_site_changes_and_reads_nothing(
    url: str, engine: Engine, tmp_path: Path
) -> None:
    assert visit(url, tmp_path) == []
    assert untouched(engine)


def test_the_page_sends_what_it_can(tmp_path: Path) -> None:
    """So that the test above is one: a server that takes anything gets every body."""
    with serving(Site()) as open_server:
        visit(open_server.url, tmp_path)
    got = open_server.sent
    for _, path, body in CHANGES:
        kinds = {kind for place, kind, sent in got if place == path and json.loads(sent)}
        assert {"text/plain", "application/x-www-form-urlencoded"} <= kinds
        if "reason" not in body:
            assert any(place == path and b'"reason"' in sent for place, _, sent in got)


def test_a_name_that_points_here_reads_nothing(url: str, tmp_path: Path) -> None:
    """DNS rebinding: the browser takes the gateway for a site called evil.example."""
    port = url.rsplit(":", 1)[1]
    for name, expected in (("evil.example", "HEADRACE_ALLOWED_HOSTS"), ("localhost", "versions")):
        rules = f"--host-resolver-rules=MAP {name} 127.0.0.1"
        browser = browse(f"http://{name}:{port}/v1/plan", tmp_path / name, rules, "--dump-dom")
        shown, _ = browser.communicate(timeout=120)
        assert expected in shown and ("versions" in shown) == (name == "localhost")

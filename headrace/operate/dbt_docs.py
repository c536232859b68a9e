"""Serves the documentation that dbt made, on this machine."""

from __future__ import annotations

import functools
import webbrowser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def serve(folder: Path) -> None:
    """Serve a folder on a free port of 127.0.0.1 and open it in a browser, until Ctrl-C."""
    handler = functools.partial(_Silent, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        print(f"docs     {url}\nCtrl-C stops it", flush=True)
        webbrowser.open(url)
        server.serve_forever()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print no line for each request."""

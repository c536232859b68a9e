"""A Redis for benchmarks: from the PATH, or Debian's, unpacked into a folder and not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from headrace.machine import free_port

PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")


class Redis:
    """One server on a free port, which keeps nothing on disk. A context manager.

    Args:
        folder: where Debian's packages are unpacked, if there is no redis-server in the PATH.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder

    def __enter__(self) -> Redis:
        program, libraries = self._program()
        self._process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""],
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            env={**os.environ, "LD_LIBRARY_PATH": libraries},
        )
        import redis

        client = redis.Redis(port=self.port)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.version = client.info("server")["redis_version"]
                return self
            except redis.exceptions.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _program(self) -> tuple[str, str]:
        """Return the server and the folder of its libraries."""
        if found := shutil.which("redis-server"):
            return found, os.environ.get("LD_LIBRARY_PATH", "")
        root = self._folder / "root"
        subprocess.run(["apt-get", "-qq", "download", *PACKAGES], cwd=self._folder, check=True)
        for package in self._folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
        (library,) = root.glob("usr/lib/*/libjemalloc.so.2")
        return str(root / "usr" / "bin" / "redis-server"), str(library.parent)

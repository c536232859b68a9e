"""A Redis for benchmarks: from the PATH, or Debian's, unpacked into a folder and not installed."""

from __future__ import annotations

import os
import shutil
import socket
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
        deadline = time.monotonic() + 20
        while True:
            try:
                self.version = self._info()["redis_version"]
                return self
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        self._process.wait()

    def _info(self) -> dict[str, str]:
        """What the server says of itself, by its own protocol."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"INFO server\r\n")
            with connection.makefile("rb") as answer:
                size = int(answer.readline()[1:])
                lines = answer.read(size).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

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

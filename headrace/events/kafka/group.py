"""The consumer group of `ingest`: one for each database, with members that survive a restart."""

from __future__ import annotations

import fcntl
import itertools
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.engine import Engine
from headrace.settings import Settings


def group_id(engine: Engine) -> str:
    """Return the id of the group that shares the partitions: one for each database.

    A copy of a database, under another name or on another server, has a group of its own.
    """
    (row,) = engine.rows(
        "select datname as name, left(md5(concat_ws('/', system_identifier, oid)), 8) as digest "
        "from pg_control_system(), pg_database where datname = current_database()"
    )
    return f"{engine.settings.kafka_prefix}ingest-{_readable(row['name'])}-{row['digest']}"


@contextmanager
def member_id(settings: Settings) -> Iterator[str]:
    """Hold an id that no other process of this home has; the next process to start reuses it.

    Brokers give a member with a known id (`group.instance.id`) its partitions at once, even if its
    predecessor was killed and its session has not timed out yet.
    """
    folder = settings.home / "ingest"
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        with (folder / f"{number}.member").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            file.seek(0)
            token = file.read()
            if not re.fullmatch("[0-9a-f]{8}", token):
                token = secrets.token_hex(4)
                file.truncate(0)
                file.write(token)
                file.flush()
            yield f"{_readable(socket.gethostname())}-{number}-{token}"
            return


def _readable(name: str) -> str:
    """Return the name with only the characters that brokers allow, at most 63 of them."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:63]

"""Under what name ingest joins: the group of its database, and a member that outlives a restart."""

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


def group_of(engine: Engine) -> str:
    """Return the group whose members share the partitions: those of one database, and no others.

    A copy of a database in another one, or on another server, has a group of its own.
    """
    (row,) = engine.rows(
        "select datname as name, left(md5(concat_ws('/', system_identifier, oid)), 8) as digest "
        "from pg_control_system(), pg_database where datname = current_database()"
    )
    return f"{engine.settings.kafka_prefix}ingest-{_readable(row['name'])}-{row['digest']}"


@contextmanager
def member(settings: Settings) -> Iterator[str]:
    """Hold a name that no other process of this home has, and that the next one to start takes up.

    The brokers give a member of the same name its partitions at once, also when the one before it
    was killed and they have not missed it yet.
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
    """What of a name the brokers take, at most 63 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:63]

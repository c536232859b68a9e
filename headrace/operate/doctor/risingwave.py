"""What the doctor asks a RisingWave: how soon it shows events, and whether it has room left."""

from __future__ import annotations

from headrace.engine import Engine
from headrace.operate.doctor.findings import Findings, failed, ok, warning

LONGEST_BARRIER_MS = 1_000
# Actors for each core of a node: RisingWave warns above the first, and makes nothing more above the
# second. They are its defaults; what its administrator set instead is not to be read.
MANY_ACTORS, TOO_MANY_ACTORS = 100, 400


def barriers(engine: Engine) -> Findings:
    """RisingWave shows an event once the barrier after it has passed."""
    with engine.connect() as connection:
        shown = {row[0]: row[1] for row in connection.execute("show parameters").fetchall()}
    interval = int(shown["barrier_interval_ms"])
    says = f"a barrier every {interval} ms"
    if interval > LONGEST_BARRIER_MS:
        yield warning(says, f"alter system set barrier_interval_ms = {LONGEST_BARRIER_MS}")
    else:
        yield ok(says)


def actors(engine: Engine) -> Findings:
    """Each node runs no more actors than a cluster makes more views with.

    A view runs each of its fragments once a core, so that more cores alone change nothing.
    """
    for row in engine.rows(
        "select worker_id, parallelism, actor_count from rw_catalog.rw_worker_actor_count "
        "order by worker_id"
    ):
        each = row["actor_count"] / max(row["parallelism"], 1)
        says = f"node {row['worker_id']} runs {each:.0f} actors a core, of all databases"
        do = (
            "drop views that nobody reads, or run some on fewer cores than there are: "
            "alter materialized view ... set parallelism = 1"
        )
        if each > TOO_MANY_ACTORS:
            yield failed(f"{says}: over {TOO_MANY_ACTORS} nothing can be made any more", do)
        elif each > MANY_ACTORS:
            yield warning(
                f"{says}: it should be {MANY_ACTORS}, and {TOO_MANY_ACTORS} is the end", do
            )
        else:
            yield ok(says)

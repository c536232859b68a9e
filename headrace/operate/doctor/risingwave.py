"""Checks of RisingWave: how soon it shows events, and whether it can run more views."""

from __future__ import annotations

from headrace.engine import Engine
from headrace.operate.doctor.findings import Findings, failed, ok, warning

LONGEST_BARRIER_MS = 1_000
# Actors for each core of a node: RisingWave warns above the first, and creates nothing more above
# the second. These are its defaults; other values, set by an administrator, cannot be queried.
MANY_ACTORS, TOO_MANY_ACTORS = 100, 400


def check_barriers(engine: Engine) -> Findings:
    """Barriers are frequent: an event is visible only after the next one."""
    with engine.connect() as connection:
        shown = {row[0]: row[1] for row in connection.execute("show parameters").fetchall()}
    interval = int(shown["barrier_interval_ms"])
    says = f"a barrier every {interval} ms"
    if interval > LONGEST_BARRIER_MS:
        yield warning(says, f"alter system set barrier_interval_ms = {LONGEST_BARRIER_MS}")
    else:
        yield ok(says)


def check_actors(engine: Engine) -> Findings:
    """The nodes run few enough actors to create more views.

    A view runs each of its fragments once a core, so more cores do not help.
    """
    for row in engine.rows(
        "select worker_id, parallelism, actor_count from rw_catalog.rw_worker_actor_count "
        "order by worker_id"
    ):
        each = row["actor_count"] / max(row["parallelism"], 1)
        says = f"node {row['worker_id']} runs {each:.0f} actors a core, for all databases"
        do = (
            "drop views that nobody reads, or run some on fewer cores: "
            "alter materialized view ... set parallelism = 1"
        )
        if each > TOO_MANY_ACTORS:
            yield failed(f"{says}: above {TOO_MANY_ACTORS}, no view can be created", do)
        elif each > MANY_ACTORS:
            yield warning(f"{says}: more than {MANY_ACTORS}; the limit is {TOO_MANY_ACTORS}", do)
        else:
            yield ok(says)

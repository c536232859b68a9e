"""The report of a run on a RisingWave: how its marts differ, and what its objects cost.

Columns of its catalogue (`rw_catalog`) were read in its source: an actor runs one fragment of a
streaming job on one core, and a job keeps its state in tables of its own, internal ones included.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import psycopg

from headrace.errors import one_line
from headrace.operate.doctor.risingwave import MANY_ACTORS, TOO_MANY_ACTORS
from tests.support import risingwave_views as views

SCHEMAS = ("control", "events", "headrace", "panes")
COSTS = """
with running as (
    select fragments.table_id as job, count(distinct fragments.fragment_id) as fragments,
        count(*) as actors
    from rw_catalog.rw_actors as actors
    inner join rw_catalog.rw_fragments as fragments on actors.fragment_id = fragments.fragment_id
    group by fragments.table_id
),
kept as (
    select id, job_id as job from rw_catalog.rw_internal_tables
    union all
    select id, id as job from rw_catalog.rw_tables
    union all
    select id, id as job from rw_catalog.rw_materialized_views
),
state as (
    select kept.job, count(*) as kept_tables,
        sum(coalesce(sizes.total_key_size + sizes.total_value_size, 0)) as kept_bytes
    from kept
    left join rw_catalog.rw_table_stats as sizes on kept.id = sizes.id
    group by kept.job
)
select schemas.name || '.' || relations.name as name, relations.relation_type as kind,
    coalesce(running.fragments, 0) as fragments, coalesce(running.actors, 0) as actors,
    coalesce(state.kept_tables, 0) as kept_tables, coalesce(state.kept_bytes, 0) as kept_bytes
from rw_catalog.rw_relations as relations
inner join rw_catalog.rw_schemas as schemas on relations.schema_id = schemas.id
left join running on relations.id = running.job
left join state on relations.id = state.job
where schemas.name in ('control', 'events', 'headrace', 'panes')
order by actors desc, kept_bytes desc, name
"""
NODES = """
select worker_id, parallelism, actor_count from rw_catalog.rw_worker_actor_count order by worker_id
"""


class Cost(NamedTuple):
    """What an object costs; `tables` are those of its state, internal ones included."""

    name: str
    kind: str
    fragments: int
    actors: int
    tables: int
    bytes: int


class Compared(NamedTuple):
    """One mart on both engines: its rows, and its differences or the error."""

    mart: str
    there: int
    here: int
    seconds: float
    differences: list[str]


def compare(
    there: psycopg.Connection[Any], here: psycopg.Connection[Any], ignored: Collection[str] = ()
) -> list[Compared]:
    """Read every mart on both engines; an error in one does not stop the others."""
    found = []
    for mart, key in views.marts().items():
        if mart in views.OF_THE_ENGINE:
            continue
        wanted = views.rows(here, mart)
        began = time.monotonic()
        try:
            rows, raised = views.rows(there, mart), []
        except psycopg.Error as error:
            rows, raised = [], [f"{mart}: {one_line(error)}"]
        seconds = time.monotonic() - began
        differing = raised or views.differences(mart, key, rows, wanted, ignored)
        found.append(Compared(mart, len(rows), len(wanted), seconds, differing))
    return found


def costs(connection: psycopg.Connection[Any]) -> list[Cost]:
    """Return the cost of each object of Headrace, most expensive first."""
    return [
        Cost(name, kind, *map(int, numbers))
        for name, kind, *numbers in connection.execute(COSTS).fetchall()
    ]


def nodes(connection: psycopg.Connection[Any]) -> list[tuple[int, int, int]]:
    """Return (id, cores, actors) of each node; the actors are those of all databases."""
    return connection.execute(NODES).fetchall()


def differences(compared: Iterable[Compared]) -> str:
    """The table of the marts, then every difference of those that have few."""
    marts = list(compared)
    lines = [
        (each.mart, each.there, each.here, f"{each.seconds:.1f}", len(each.differences))
        for each in marts
    ]
    head = ("mart", "rows there", "rows here", "seconds", "differences")
    total = f"{sum(bool(each.differences) for each in marts)} of {len(marts)} marts differ"
    some = [text for each in marts for text in each.differences[:5]]
    return "\n".join([_table(head, lines), total, *some])


def expenses(found: Sequence[Cost], cluster: Iterable[tuple[int, int, int]]) -> str:
    """The table of objects with actors or state, their sum, and each node with its limits."""
    dear = [each for each in found if each.actors or each.bytes]
    lines = [(*each[:5], _bytes(each.bytes)) for each in dear]
    fragments, actors, tables, size = (
        sum(column) for column in zip((0, 0, 0, 0), *(each[2:] for each in found), strict=True)
    )
    lines.append(("together", "", fragments, actors, tables, _bytes(size)))
    limits = [
        f"node {node}: {running} actors of all databases on {cores} cores, {running / cores:.0f} a "
        f"core (it warns above {MANY_ACTORS}, and makes nothing more above {TOO_MANY_ACTORS})"
        for node, cores, running in cluster
    ]
    head = ("object", "kind", "fragments", "actors", "tables", "state")
    return "\n".join([_table(head, lines), *limits])


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    texts = [[str(value) for value in line] for line in [head, *lines]]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    is_text = [all(isinstance(line[place], str) for line in lines) for place in range(len(head))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if left and place < 2 else text.rjust(width)
            for place, (text, width, left) in enumerate(zip(line, widths, is_text, strict=True))
        ).rstrip()
        for line in texts
    )

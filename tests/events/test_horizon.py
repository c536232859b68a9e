"""Who reads what is new up to headrace.ingest_horizon misses nothing, whatever batches overlap."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from headrace.engine import Engine
from headrace.engine.dialect import READER
from headrace.engine.embedded import EmbeddedPostgres
from headrace.events.contract import parse
from headrace.events.log import EventLog
from tests.support.streams import send

FIELDS = "request_id, event_time, model, model_version, variant, output"
# More than a client holds back before it sends.
PADDING = '"' + 2000 * "x" + '"'
NEW = """
select stored.request_id, stored.ingested_at, horizon.complete_until
from events.inference as stored
cross join headrace.ingest_horizon as horizon
where stored.ingested_at >= %s and stored.ingested_at < horizon.complete_until
"""


@pytest.fixture
def connections(engine: Engine) -> Iterator[list[psycopg.Connection[Any]]]:
    opened = [engine.connect(autocommit=False) for _ in range(3)]
    yield opened
    for connection in opened:
        connection.close()


def write(copy: psycopg.Copy, name: str, rows: int = 24) -> None:
    for number in range(rows):
        copy.write_row((f"{name}-{number}", datetime.now(UTC), "m", "1", "champion", PADDING))


def mark(engine: Engine) -> datetime:
    (row,) = engine.rows("select complete_until from headrace.ingest_horizon")
    return row["complete_until"]  # type: ignore[no-any-return]


def wait_for_batch(engine: Engine) -> None:
    held = "select 1 as x from pg_locks where relation = 'locks.batches'::regclass"
    while not engine.rows(held):
        time.sleep(0.005)
    time.sleep(0.1)  # until the first rows have come in


def test_an_open_batch_holds_the_mark(
    engine: Engine, connections: list[psycopg.Connection[Any]]
) -> None:
    slow, quick, _ = connections
    with slow.cursor() as cursor:
        with cursor.copy(f"copy events.inference ({FIELDS}) from stdin") as copy:
            write(copy, "slow")
            wait_for_batch(engine)
            between = engine.rows("select clock_timestamp() as now")[0]["now"]
            with quick.cursor() as other, other.copy(copy_sql()) as second:
                write(second, "quick")
            quick.commit()
            assert mark(engine) < between
        held_back = mark(engine)
        slow.commit()
    stored = engine.rows("select request_id, ingested_at from events.inference")
    earliest = {name: min(r["ingested_at"] for r in stored if name in r["request_id"])
                for name in ("slow", "quick")}  # fmt: skip
    # The quick batch was visible first, with later rows: who went by its rows lost the slow one's.
    assert earliest["slow"] < earliest["quick"]
    assert held_back <= earliest["slow"]
    assert mark(engine) > max(row["ingested_at"] for row in stored)


def copy_sql() -> str:
    return f"copy events.inference ({FIELDS}) from stdin"


def test_a_batch_of_several_statements_is_complete_as_a_whole(engine: Engine) -> None:
    before = mark(engine)
    rows = [
        ("inference", {"request_id": "r", "model": "m"}),
        ("feedback", {"request_id": "r", "label": "a"}),
    ]
    with EventLog(engine) as log:
        send(log, [(topic, parse(topic, row)) for topic, row in rows])  # type: ignore[arg-type,misc]
    (last,) = engine.rows(
        "select greatest(max(i.ingested_at), max(f.ingested_at)) as at "
        "from events.inference as i, events.feedback as f"
    )
    assert before < last["at"] < mark(engine)


@pytest.mark.parametrize("seed", range(3))
def test_increments_hold_each_row_once(
    engine: Engine, connections: list[psycopg.Connection[Any]], seed: int
) -> None:
    rng = random.Random(seed)
    pauses = [[rng.random() * 0.03 for _ in range(12)] for _ in connections]
    found: list[str] = []
    last = datetime(1970, 1, 1, tzinfo=UTC)
    done = threading.Event()

    def ingest(connection: psycopg.Connection[Any], number: int) -> None:
        for batch, pause in enumerate(pauses[number]):
            with connection.cursor() as cursor, cursor.copy(copy_sql()) as copy:
                write(copy, f"{number}-{batch}-a")
                time.sleep(pause)
                write(copy, f"{number}-{batch}-b")
            if batch % 5 == 4:
                connection.rollback()
            else:
                connection.commit()

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(ingest, c, n) for n, c in enumerate(connections)]
        while not done.is_set():
            if all(writer.done() for writer in writers):
                done.set()  # and look once more
            for row in engine.rows(NEW, [last]):
                found.append(row["request_id"])
                following = row["complete_until"]
            last = max(last, following) if found else last
    for writer in writers:
        writer.result()
    stored = [row["request_id"] for row in engine.rows("select request_id from events.inference")]
    assert len(stored) == 3 * 10 * 48
    assert sorted(found) == sorted(stored)


def test_a_reader_may_ask_and_holds_nothing_up(engine: Engine, template: EmbeddedPostgres) -> None:
    address = make_conninfo(engine.dsn, user=READER, password=template.password(READER))
    with psycopg.connect(address) as reader, EventLog(engine) as log:
        reader.execute("select complete_until from headrace.ingest_horizon")
        log.submit("inference", [parse("inference", {"model": "m"})]).result(timeout=5)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("select events.note_turn()")

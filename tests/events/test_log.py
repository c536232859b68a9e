"""The event log against a real PostgreSQL."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec import structs

from headrace.engine import Engine
from headrace.errors import BusyError, ContractError, EngineError
from headrace.events.contract import Event, Inference, Topic, parse
from headrace.events.log import EventLog, Filled, Rejected
from headrace.events.rows import ACCEPTED, DUPLICATE, Receipt
from tests.support.payloads import payloads

NOON = "2024-05-01T12:00:00Z"


def inference(request_id: str, **fields: Any) -> Event:
    return parse(
        "inference", {"model": "m", "request_id": request_id, "event_time": NOON, **fields}
    )


def name_of(event: Event) -> str:
    assert isinstance(event, Inference)
    return event.request_id


def count(engine: Engine, table: str = "inference") -> int:
    rows = engine.rows(f"select count(*) as n from events.{table}")
    return int(rows[0]["n"])


def test_a_receipt_comes_after_the_commit_and_counts_repeats_once(engine: Engine) -> None:
    with EventLog(engine) as log:
        first = log.append("inference", [inference("a"), inference("b"), inference("a")])
        assert count(engine) == 2
        second = log.append("inference", [inference("b"), inference("c")])
    assert sorted(first, key=str) == [ACCEPTED, ACCEPTED, DUPLICATE]
    assert first[1] == ACCEPTED
    assert second == [DUPLICATE, ACCEPTED]
    assert count(engine) == 3


def test_every_item_has_its_receipt_in_order(engine: Engine) -> None:
    error = ContractError("score", "a number in [0, 1]", 7)
    items = [
        Rejected({"score": 7}, error),
        inference("new"),
        inference("stored"),
        Filled(inference("stored", event_time="2024-05-02T00:00:00Z", score=0.5), ["event_time"]),
        structs.replace(inference("bad"), prediction="\x00"),
        inference("last"),
    ]
    with EventLog(engine) as log:
        log.append("inference", [inference("stored")])
        receipts = log.append("inference", items)
    assert receipts[:4] == [
        Receipt("rejected", reason=str(error)), ACCEPTED, DUPLICATE,
        Receipt("conflict", ("score",)),
    ]  # fmt: skip
    assert receipts[4].status == "rejected" and "0x00" in receipts[4].reason
    assert receipts[5:] == [ACCEPTED]
    assert count(engine) == 3 and count(engine, "rejected") == 2


def test_every_field_comes_back_as_it_was_sent(engine: Engine) -> None:
    sent = {
        "model": "m", "model_version": "2", "request_id": "r\t\\N\n\"'", "variant": "canary",
        "endpoint": "/x", "segment": "é\\.", "user_id": "u", "session_id": "s", "item_id": "i",
        "event_time": "2024-05-01T12:00:00.123456Z", "prediction": True, "score": 0.1,
        "features": {"a": 1, "b": 0.1, "c": "\\", "d": False, "e": None, "f": 10**40},
        "input": {"text": "tab\tnewline\n\\.\n"}, "output": [1, {"x": []}],
        "propensity": 1e-300, "latency_ms": 12.5, "error": "",
    }  # fmt: skip
    event = parse("inference", sent)
    with EventLog(engine) as log:
        log.append("inference", [event])
    row = engine.rows("select * from events.inference")[0]
    assert row.pop("ingested_at") is not None
    assert row == {name: getattr(event, name) for name in event.__struct_fields__}


def test_whatever_the_contract_accepts_can_be_stored(engine: Engine) -> None:
    with EventLog(engine) as log:

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(payloads())
        def check(case: tuple[Topic, dict[str, Any]]) -> None:
            topic, payload = case
            try:
                event = parse(topic, payload)
            except ContractError as error:
                (receipt,) = log.append(topic, [Rejected(payload, error)])
                reason = str(error).replace("\0", "\\x00")
                assert receipt == Receipt("rejected", reason=reason)
            else:
                (receipt,) = log.append(topic, [event])
                assert receipt.status != "rejected"

        check()


def test_an_event_that_the_database_refuses_takes_no_other_with_it(engine: Engine) -> None:
    good = [inference(f"good-{number}") for number in range(20)]
    bad = [structs.replace(inference(name), prediction="\x00") for name in ("bad-1", "bad-2")]
    with EventLog(engine) as log:
        receipts = log.append("inference", [*good[:7], bad[0], *good[7:], bad[1], good[0]])
    assert Counter(each.status for each in receipts) == {
        "accepted": 20, "duplicate": 1, "rejected": 2,
    }  # fmt: skip
    assert [at for at, each in enumerate(receipts) if each.status == "rejected"] == [7, 21]
    assert all("0x00" in receipts[at].reason for at in (7, 21))
    assert count(engine) == 20
    rows = engine.rows("select topic, reason, payload from events.rejected")
    assert sorted(json.loads(row["payload"])["request_id"] for row in rows) == ["bad-1", "bad-2"]
    assert all("0x00" in row["reason"] for row in rows)


def test_what_broke_the_contract_is_kept_with_its_reason(engine: Engine) -> None:
    payload = {"model": "m", "user_id": "a\x00b\ud800", "score": float("nan")}
    error = ContractError("user_id", "text without NUL characters", payload["user_id"])
    with EventLog(engine) as log:
        log.append("inference", [Rejected(payload, error)])
        other = ContractError("a\x00", "known", 1)
        log.append("feedback", [Rejected({"a\x00": object()}, other)])
    rows = engine.rows("select topic, field, reason, payload from events.rejected order by 1 desc")
    assert [row["topic"] for row in rows] == ["inference", "feedback"]
    assert rows[0]["reason"] == str(error)
    assert "a\\u0000b\\ud800" in rows[0]["payload"]


def test_leaving_stores_all_that_is_queued(engine: Engine) -> None:
    with EventLog(engine) as log:
        for number in range(3_000):
            log.submit("inference", [inference(f"r-{number}")])
    assert count(engine) == 3_000
    with pytest.raises(EngineError, match="closed"):
        log.append("inference", [inference("late")])


def test_a_full_queue_says_so_and_empties_again(engine: Engine) -> None:
    engine.settings = replace(engine.settings, queue_rows=10)
    with engine.connect(autocommit=False) as blocker:
        blocker.execute("lock table events.inference in exclusive mode")
        log = EventLog(engine)
        waiting = []
        with pytest.raises(BusyError):
            for number in range(30):
                waiting.append(log.submit("inference", [inference(f"r-{number}")]))
                time.sleep(0.01)
        blocker.rollback()
    for future in waiting:
        assert future.result(30) == [ACCEPTED]
    log.append("inference", [inference("after")])
    log.close()
    assert count(engine) == len(waiting) + 1


def test_a_lost_connection_is_made_again_and_nothing_is_lost(engine: Engine) -> None:
    stopping = threading.Event()
    sent: list[str] = []

    def send(worker: int) -> int:
        number = 0
        while not stopping.is_set():
            request_id = f"{worker}-{number}"
            log.append("inference", [inference(request_id)])
            sent.append(request_id)
            number += 1
        return number

    with EventLog(engine) as log, ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(send, worker) for worker in range(8)]
        for _ in range(5):
            time.sleep(0.2)
            engine.rows(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'headrace log' and datname = current_database()"
            )
        time.sleep(0.2)
        stopping.set()
        assert all(worker.result() > 0 for worker in workers)
    stored = {row["request_id"] for row in engine.rows("select request_id from events.inference")}
    assert stored == set(sent)


def test_feedback_before_its_inference_in_one_batch(engine: Engine) -> None:
    with engine.connect(autocommit=False) as blocker:
        blocker.execute("lock table events.inference in exclusive mode")
        with EventLog(engine) as log:
            feedback = parse("feedback", {"request_id": "r", "label": "yes"})
            futures = [
                log.submit("feedback", [feedback]),
                log.submit("inference", [inference("r", prediction="no")]),
            ]
            blocker.rollback()
            assert [future.result(30) for future in futures] == [[ACCEPTED]] * 2
    assert engine.rows("select label from headrace.labeled_examples") == [{"label": "yes"}]


def test_ingested_up_to_a_moment_names_the_same_rows_for_ever(engine: Engine) -> None:
    def send(log: EventLog, name: str) -> None:
        for number in range(40):
            log.append("inference", [inference(f"{name}-{number}")])

    seen = []
    with EventLog(engine) as one, EventLog(engine) as two, ThreadPoolExecutor(2) as pool:
        sending = [pool.submit(send, log, name) for log, name in ((one, "one"), (two, "two"))]
        while not all(future.done() for future in sending):
            (moment,) = engine.rows("select events.ingested_up_to() as up_to")
            query = "select count(*) as n from events.inference where ingested_at <= %s"
            seen.append((query, [moment["up_to"]], engine.rows(query, [moment["up_to"]])))
    assert count(engine) == 80
    assert len(seen) > 3
    for query, parameters, rows in seen:
        assert engine.rows(query, parameters) == rows


def test_batches_that_overlap_find_each_pair_once(engine: Engine) -> None:
    answers = [inference(f"r-{number}", prediction="no") for number in range(400)]
    opinions = [parse("feedback", {"request_id": f"r-{n}", "label": "yes"}) for n in range(400)]
    with EventLog(engine) as one, EventLog(engine) as other:
        futures = []
        for at in range(0, 400, 20):
            futures.append(one.submit("feedback", opinions[at : at + 20]))
            time.sleep(0.002)
            futures.append(other.submit("inference", answers[at : at + 20]))
        assert all(future.result() == [ACCEPTED] * 20 for future in futures)
    rows = engine.rows("""
        select
            (select count(*) from panes.labels) as labels,
            (select sum(examples) from panes.label_counts) as examples,
            (select sum(feedback) from panes.feedback_panes where grain = 'ever') as feedback
    """)
    assert rows == [{"labels": 400, "examples": 400, "feedback": 400}]


def test_only_transactions_that_see_other_batches_may_ingest(engine: Engine) -> None:
    with engine.connect(autocommit=False) as connection:
        connection.execute("set transaction isolation level repeatable read")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="repeatable read"):
            connection.execute(
                "insert into events.inference (request_id, event_time, model, model_version, "
                "variant) values ('r', now(), 'm', '1', 'champion')"
            )


def deadlocks(engine: Engine) -> int:
    (row,) = engine.rows(
        "select deadlocks from pg_stat_database where datname = current_database()"
    )
    return int(row["deadlocks"])


def repeated(count: int, seed: int) -> list[list[Event]]:
    """Batches of 20 events, each with ids of the ones before and after it, in any order."""
    rng = random.Random(seed)
    return [
        [inference(f"r-{n}") for n in rng.choices(range(start, start + 60), k=20)]
        for start in range(0, 20 * count, 20)
    ]


def test_a_batch_is_not_begun_before_the_one_before_has_ended(engine: Engine) -> None:
    """An open COPY would keep the old versions of all rows that panes update meanwhile."""
    engine.settings = replace(engine.settings, batch_rows=20)
    with engine.connect(autocommit=False) as blocker:
        blocker.execute("lock table locks.turn in exclusive mode")
        with EventLog(engine) as log:
            futures = [log.submit("inference", batch) for batch in repeated(20, 1)]
            while not engine.rows("select pid from pg_locks where not granted"):
                time.sleep(0.01)
            (open_,) = engine.rows(
                "select count(*) as n from pg_stat_activity where "
                "application_name = 'headrace log' and datname = current_database() "
                "and xact_start is not null"
            )
            time.sleep(0.05)
            blocker.rollback()
            statuses = Counter(each.status for future in futures for each in future.result(60))
    assert open_ == {"n": 1}
    assert futures[0].written_s > 0.05 and futures[-1].waited_s > 0.05
    assert statuses["accepted"] == count(engine)
    assert statuses["duplicate"] == 20 * 20 - count(engine)


def test_processes_that_store_the_same_ids_take_them_in_one_order(engine: Engine) -> None:
    engine.settings = replace(engine.settings, batch_rows=20)
    sent = [repeated(100, seed) for seed in (1, 2, 3)]
    with ExitStack() as opened:
        logs = [opened.enter_context(EventLog(engine)) for _ in sent]
        futures = [
            log.submit("inference", batches[at])
            for at in range(100)
            for log, batches in zip(logs, sent, strict=True)
        ]
        statuses = Counter(each.status for future in futures for each in future.result(60))
    wanted = {name_of(event) for batches in sent for batch in batches for event in batch}
    assert statuses["accepted"] == len(wanted) == count(engine)
    assert deadlocks(engine) == 0


def test_a_deadlock_with_another_process_ends_soon(engine: Engine) -> None:
    """Each of two has an answer that the other wants to store as well."""
    (name,) = engine.rows("select current_database() as name")
    with engine.connect() as connection:
        connection.execute(f"alter database {name['name']} set deadlock_timeout = '1h'".encode())
    with engine.connect(autocommit=False) as other:
        store = (
            "insert into events.inference (request_id, event_time, model, model_version, variant) "
            "values (%s, now(), 'm', '1', 'champion') on conflict do nothing"
        )
        other.execute(store, ["b"])
        with EventLog(engine) as log:
            future = log.submit("inference", [inference("a"), inference("b")])
            while not engine.rows("select pid from pg_locks where not granted"):
                time.sleep(0.01)
            other.execute(store, ["a"])
            other.commit()
            receipts = future.result(60)
    assert [receipt.status for receipt in receipts] == ["conflict"] * 2
    assert count(engine) == 2
    assert deadlocks(engine) == 1

"""An event with every text at the limit of the contract is stored, and updates all panes."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.control import policies
from headrace.control.claims import claim, wanted_triggers
from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.events.contract import TOPICS, Topic, parse
from headrace.events.log import EventLog
from headrace.events.rows import Receipt
from headrace.events.values import MAX_FEATURE, MAX_ID, max_bytes

# A row of a B-tree holds a third of a page: BTMaxItemSize, without the header of a row of 8 bytes.
MOST = 2_704
HEADER = 8
START = datetime(2024, 5, 1, tzinfo=UTC)
# Text that does not compress: characters of four bytes, drawn from some 40,000.
RANDOM = random.Random(5)


def text(size: int = MAX_ID) -> str:
    return "".join(chr(RANDOM.randrange(0x20000, 0x2A6D0)) for _ in range(size // 4))


def inference(**fields: Any) -> dict[str, Any]:
    """An inference with every text at its limit, unless given."""
    names = ("endpoint", "segment", "user_id", "session_id", "item_id", "request_id", "prediction")
    return {
        **{name: text() for name in names},
        "event_time": START.isoformat(),
        "score": 0.5,
        "propensity": 0.5,
        "target_propensity": 0.25,
        "position": 1_000_000,
        "latency_ms": 3,
        "error": text(4 * 1_000),
        "features": {text(4 * MAX_FEATURE): text(4 * 1_000), text(4 * MAX_FEATURE): 3.5},
        **fields,
    }


def send(log: EventLog, topic: Topic, *payloads: dict[str, Any]) -> None:
    receipts = log.append(topic, [parse(topic, payload) for payload in payloads])
    assert receipts == [Receipt("accepted")] * len(payloads)


@pytest.fixture
def stuffed(engine: Engine) -> Engine:
    """A database with an event of each kind, each of its texts at its limit."""
    model = text()
    first = inference(model=model, model_version=text())
    # A class has at most 64 characters; some panes have null for a longer label.
    other = inference(model=model, model_version=text(), prediction=text(4 * 64))
    third = inference(model=model, model_version=text(), prediction=text(4 * 64))
    shadow = inference(
        model=model, model_version=text(), variant="shadow", shadow_of=first["request_id"]
    )
    late = (START + timedelta(hours=1)).isoformat()
    about = {"request_id": first["request_id"], "event_time": late, "user_id": text()}
    with EventLog(engine) as log:
        send(log, "inference", first, other, third, shadow)
        send(
            log, "feedback",
            {**about, "feedback_id": text(), "label": text(), "value": 1.0},
            {
                **about, "feedback_id": text(), "label": text(4 * 64),
                "request_id": other["request_id"],
            },
            {
                **about, "feedback_id": text(), "label": text(4 * 64),
                "request_id": third["request_id"],
            },
            {
                **about, "feedback_id": text(), "kind": "preference",
                "rejected_request_id": other["request_id"],
            },
            {**about, "feedback_id": text(), "request_id": text(), "label": text()},
            {
                **about, "feedback_id": text(), "kind": "rating", "value": 1.0,
                "metadata": {"name": text()},
            },
            {
                **about, "feedback_id": text(), "user_id": None, "kind": "report",
            },
            {**about, "feedback_id": text(), "kind": "retraction", "retracts": text()},
        )  # fmt: skip
        names = ("event_id", "run_id", "trigger_id", "dataset_id", "parent_version", "artifact_uri")
        send(log, "model_events", {
            **{name: text(max_bytes(name)) for name in names}, "model": model,
            "model_version": first["model_version"], "event": "promoted", "event_time": late,
        })  # fmt: skip
        edited = parse("inference", {**first, "score": 0.25})
        (receipt,) = log.append("inference", [edited])
        assert receipt.status == "conflict"
    policies.write(engine, model, {"learn": "on", "min_new_labels": 1, "min_sample": 1})
    with engine.connect() as connection:
        connection.execute(
            "insert into control.label_policies (model, kind, wins) values (%s, 'label', 'last')",
            [model],
        )
        connection.execute(
            "insert into control.datasets values (%s, %s, %s, now(), 1, 'x', '{}')",
            [text(), model, text()],
        )
        connection.execute(
            "insert into control.segment_labels values (%s, md5('x'), now(), %s, '')",
            [model, text()],
        )
        connection.execute(
            "insert into events.input_vectors values (%s, %s, %s, now(), now(), '[1]')",
            [model, text(), text()],
        )
        connection.execute(
            "insert into events.input_vector_hours values (%s, %s, now(), 1, '{1}', '{1}')",
            [model, text()],
        )
        connection.execute("select control.expire()")
    return engine


def indexes(engine: Engine) -> list[dict[str, Any]]:
    """Each index of our tables, and its columns as expressions."""
    return engine.rows(
        """
        select
            relations.oid::regclass::text as relation,
            indexes.indexrelid::regclass::text as name,
            (
                select array_agg(pg_get_indexdef(indexes.indexrelid, place, true) order by place)
                from generate_series(1, indexes.indnatts) as place
            ) as columns
        from pg_index as indexes
        inner join pg_class as relations on indexes.indrelid = relations.oid
        where relations.relnamespace::regnamespace::text in ('events', 'control', 'panes')
        order by 1, 2
        """
    )


def test_every_pane_and_table_takes_an_event_at_its_limits(stuffed: Engine) -> None:
    """Also of a canary, a shadow, models that share a request and one with several classes."""
    model, request = text(), {"request_id": text(), "item_id": text()}
    named = {"model": model, "prediction": text(4 * 64)}
    classes = {text(4 * 64): 0.25, text(4 * MAX_FEATURE): 0.25, text(4 * MAX_FEATURE): 0.5}
    with EventLog(stuffed) as log:
        send(
            log, "inference",
            inference(model=text(), model_version=text(), variant="canary", **request),
            inference(**named, model_version=text(), probabilities=classes, **request),
            inference(
                **named, model_version=text(), variant="shadow", item_id=request["item_id"],
                shadow_of=request["request_id"],
            ),
        )  # fmt: skip
        said = {**request, "feedback_id": text(), "event_time": START.isoformat()}
        send(log, "feedback", {**said, "label": text(4 * 64)})
    for topic in TOPICS:
        assert stuffed.rows(f"select count(*) as n from events.{topic}")[0]["n"] >= 1
    assert stuffed.rows("select * from events.rejected") == []
    empty = {
        index["relation"]
        for index in indexes(stuffed)
        if not stuffed.rows(f"select from {index['relation']} limit 1")
    }
    # Tables of Kafka and of refused events; what trainers and deployments write has other tests.
    of_kafka = {"control.consumed", "control.topic_ends", "control.losses"}
    written_later = {
        "control.alert_log", "control.load_failures", "control.trigger_history",
        "control.training_progress", "control.left_views", "control.leases", "control.notices",
        "control.reviews",
    }  # fmt: skip
    assert empty == of_kafka | written_later | {"control.claims", "events.rejected"}


def test_the_widest_row_of_every_index_fits(stuffed: Engine) -> None:
    widths = {}
    for index in indexes(stuffed):
        # A header of 4 bytes before a text, and up to 7 to align what follows.
        width = " + ".join(
            f"coalesce(octet_length(({column})::text), 0) + 11" for column in index["columns"]
        )
        found = stuffed.rows(f"select max({width}) as most from {index['relation']}")[0]["most"]
        widths[index["name"]] = HEADER + (found or 0)
    assert len(widths) > 40
    assert max(widths.values()) <= MOST, widths
    assert max(widths.values()) > 4 * MAX_ID


def test_a_trigger_of_the_longest_name_is_claimed(stuffed: Engine) -> None:
    (trigger,) = [each for each in wanted_triggers(stuffed) if each.is_due]
    held = claim(stuffed, trigger, "worker")
    assert held is not None
    event = {"model": held.model, "model_version": "v1", "event": "rejected"}
    with EventLog(stuffed) as log:
        send(log, "model_events", {**event, "trigger_id": held.trigger_id, "run_id": held.run_id})


@pytest.mark.parametrize("size", [MAX_ID + 4, 3 * 256])
def test_a_name_beyond_is_refused_at_the_door(size: int) -> None:
    for name in ("model", "model_version", "segment", "item_id", "prediction", "request_id"):
        with pytest.raises(ContractError, match=f"{name}: must be at most 512 bytes in UTF-8"):
            parse("inference", {"model": "m", name: text(size)})

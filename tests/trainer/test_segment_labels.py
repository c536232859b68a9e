"""What was said of segments is kept from claim to claim, and is what the events say."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from headrace.engine import Engine
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.trainer.dataset import Dataset, build_dataset, compile_dataset
from headrace.trainer.segment_labels import COLUMNS, said_of_segments
from tests.support.claimed import claimed
from tests.support.policies import set_policies
from tests.support.segment_labels import START, Labels
from tests.support.stored import empty

MODEL, SEGMENT = "m", "a"


@pytest.fixture
def labels(log: EventLog) -> Labels:
    return Labels(log)


def told(labels: Labels, first: int, count: int) -> None:
    """Predictions of one segment and their labels, every second one positive."""
    labels.send(
        *(
            (MODEL, SEGMENT, START + timedelta(minutes=number), "ny"[number % 2])
            for number in range(first, first + count)
        )
    )


def kept(engine: Engine) -> list[int]:
    """How many facts each claim has added."""
    rows = engine.rows(
        "select length(facts) as bytes from control.segment_labels order by heard_until"
    )
    return [row["bytes"] // (8 * COLUMNS) for row in rows]


def compiled(engine: Engine, number: int, reader: FeatureReader) -> Dataset:
    return compile_dataset(engine, claimed(engine, MODEL, number), reader)


def test_a_claim_adds_what_it_heard_since_the_one_before(engine: Engine, labels: Labels) -> None:
    with FeatureReader(engine) as reader:
        told(labels, 0, 5)
        first = compiled(engine, 0, reader)
        assert kept(engine) == [5]
        told(labels, 5, 3)
        second = compiled(engine, 1, reader)
        assert kept(engine) == [5, 3]
        # Older sets, of whatever policies, keep nothing; a newer one drops those of other policies.
        assert build_dataset(engine, "0", first.query, reader).rows == first.rows
        other = {**first.query, "positive_label": "y"}
        build_dataset(engine, "0", other, reader)
        assert kept(engine) == [5, 3]
        set_policies(engine, MODEL, positive_label="y")
        compiled(engine, 2, reader)
        assert kept(engine) == [8]
        assert build_dataset(engine, "1", second.query, reader).rows == second.rows
    empty(engine)
    assert kept(engine) == []


def test_trainers_that_ask_at_once_keep_it_once(engine: Engine, labels: Labels) -> None:
    told(labels, 0, 20)
    with FeatureReader(engine) as reader:
        query = compiled(engine, 0, reader).query
    with engine.connect() as connection:
        connection.execute("delete from control.segment_labels")
    barrier = threading.Barrier(4)
    found: list[Mapping[str, Any]] = []

    def ask() -> None:
        barrier.wait()
        found.append(said_of_segments(engine, query, {SEGMENT}))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept(engine) == [20]
    for said in [*found, said_of_segments(engine, query, {SEGMENT})]:
        assert np.array_equal(np.sort(said[SEGMENT], axis=0), np.sort(found[0][SEGMENT], axis=0))
    assert len(found) == 4

"""A training set is what was final at the claim, and stays that whatever comes later."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine import Engine
from headrace.events.log import EventLog
from headrace.trainer.dataset import Dataset, compile_dataset, record_dataset
from headrace.trainer.recorded import rebuild_dataset
from tests.support.claimed import READER, claimed
from tests.support.policies import set_policies
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, MODELS, Stream, send, streams

EXAMPLES = settings(EXAMPLES, max_examples=15)
KINDS = ("label", "click", "rating", "purchase")


_policies = st.lists(
    st.tuples(
        st.sampled_from(("*", MODELS[0])),
        st.sampled_from(KINDS),
        st.sampled_from(("first", "last", "sum", "max")),
        st.integers(0, 2),
    ),
    max_size=5,
)


@EXAMPLES
@given(stream=streams(), policies=_policies, changed=_policies, default=st.sampled_from(["", "no"]))
def test_a_set_is_what_was_final_at_its_claim(
    engine: Engine,
    either: Engine,
    log: EventLog,
    stream: Stream,
    policies: Any,
    changed: Any,
    default: str,
) -> None:
    empty(engine)
    reset(engine)
    set_policies(engine, MODELS[0], label_window="6 hours", default_label=default)
    set_label_policies(engine, policies)
    sets = []
    for number, batch in enumerate(stream.batches):
        send(log, batch)
        for model in models(engine):
            claim = claimed(engine, model, number)
            dataset = compile_dataset(either, claim, READER)
            with either.writing() as connection:
                record_dataset(either, connection, claim, dataset)
            assert labels(dataset) == final(engine, model)
            sets.append(dataset)
    set_policies(engine, MODELS[0], label_window="1 hour", default_label="yes")
    set_label_policies(engine, changed)
    for dataset in sets:
        assert rebuild_dataset(either, dataset.dataset_id, READER).sha256 == dataset.sha256


def reset(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute("delete from control.datasets")
        connection.execute("delete from control.policies where model != '*'")
        connection.execute("delete from control.label_policies where model != '*'")
        connection.execute("update control.label_policies set wins = 'last', priority = 0")


def set_label_policies(engine: Engine, policies: list[tuple[str, str, str, int]]) -> None:
    with engine.connect() as connection:
        for policy in policies:
            connection.execute(
                "insert into control.label_policies (model, kind, wins, priority) "
                "values (%s, %s, %s, %s) on conflict (model, kind) do update "
                "set wins = excluded.wins, priority = excluded.priority",
                policy,
            )


def models(engine: Engine) -> list[str]:
    return [row["model"] for row in engine.rows("select model from headrace.model_clock")]


def labels(dataset: Dataset) -> dict[str, tuple[str, datetime]]:
    return {row.request_id: (row.label, row.known_at) for row in dataset.rows}


def final(engine: Engine, model: str) -> dict[str, tuple[str, datetime]]:
    rows = engine.rows(
        "select request_id, label, known_at from headrace.labeled_examples "
        "where model = %s and status = 'final' and variant != 'shadow'",
        [model],
    )
    return {row["request_id"]: (row["label"], row["known_at"]) for row in rows}

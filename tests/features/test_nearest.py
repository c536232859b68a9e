"""Feast's vector search over the view gives what SQL gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from feast.filter_models import ComparisonFilter, CompoundFilter

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from tests.support import vectors
from tests.support.policies import set_policies

FEATURES = ["input_vectors:embedding"]
OF_M = ComparisonFilter(type="eq", key="model", value="m")


@pytest.fixture
def store(
    engine: Engine, log: EventLog, monkeypatch: pytest.MonkeyPatch, reader: FeatureReader
) -> Iterator[Any]:
    """Feast's store over inputs of two models."""
    vectors.use(monkeypatch)
    set_policies(engine, embed_inputs="100000")
    chance = np.random.default_rng(4)
    log.append(
        "inference",
        [
            parse(
                "inference",
                {
                    "model": model,
                    "request_id": f"{model}{i}",
                    "input": " ".join(map(str, chance.integers(0, 40, 6))),
                    "event_time": f"2024-05-01T00:{i:02}:00Z",
                },
            )
            for i in range(50)
            for model in ("m", "other")
        ],
    )
    vectors.embed(engine)
    yield reader.store


def asked() -> list[float]:
    words = vectors.Words()
    (state,) = words.states(words.tokenize(["3 17 5 29"], 64))
    return [float(x) for x in state]


@pytest.mark.parametrize(
    "filters",
    [
        None,
        OF_M,
        CompoundFilter(
            type="and",
            filters=[
                OF_M,
                ComparisonFilter(type="in", key="request_id", value=["m1", "m2", "other3"]),
            ],
        ),
        CompoundFilter(
            type="or", filters=[ComparisonFilter(type="gt", key="request_id", value="other4"), OF_M]
        ),
        ComparisonFilter(type="ne", key="base", value="words/64/1"),
    ],
)
def test_it_equals_sql(engine: Engine, store: Any, filters: Any) -> None:
    where = {
        None: "true",
        "eq": "model = 'm'",
        "and": "model = 'm' and request_id in ('m1', 'm2', 'other3')",
        "or": "(request_id > 'other4' or model = 'm')",
        "ne": "base != 'words/64/1'",
    }[filters and filters.type]
    expected = engine.rows(
        f"select model, request_id, base, embedding::real[] as embedding, "
        f"embedding <=> %s::halfvec as distance from headrace.input_vectors where {where} "
        "order by distance limit 9",
        [str(asked())],
    )
    found = store.retrieve_online_documents_v2(
        features=FEATURES, query=asked(), top_k=9, filters=filters
    ).to_dict()
    assert len(found["distance"]) == len(expected)
    if not expected:
        return
    # Feast's rows are in the order of their entities.
    names = ("model", "request_id", "base")
    expected.sort(key=lambda row: [row[name] for name in names])
    for name in names:
        assert found[name] == [row[name] for row in expected]
    np.testing.assert_allclose(found["distance"], [row["distance"] for row in expected], atol=1e-6)
    np.testing.assert_allclose(
        found["embedding"], [row["embedding"] for row in expected], atol=1e-7
    )


def test_a_vector_is_a_feature_like_any_other(engine: Engine, store: Any) -> None:
    (row,) = engine.rows(
        "select embedding::real[] as v from headrace.input_vectors where request_id = 'm7'"
    )
    found = store.get_online_features(
        features=FEATURES, entity_rows=[{"model": "m", "request_id": "m7", "base": "words/64/1"}]
    ).to_dict()
    np.testing.assert_allclose(found["embedding"], [row["v"]], atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": None, "query_string": "refund"}, "asked by a vector"),
        ({"filters": ComparisonFilter(type="eq", key="x", value=1)}, "key must be one of"),
        ({"query": [1.0, 2.0]}, None),
    ],
)
def test_what_does_not_fit(store: Any, options: dict[str, Any], message: str | None) -> None:
    given = {"features": FEATURES, "query": asked(), "top_k": 3, **options}
    if message is None:  # no vector has as many dimensions
        assert store.retrieve_online_documents_v2(**given).to_dict().get("distance") == []
        return
    with pytest.raises(ValueError, match=message):
        store.retrieve_online_documents_v2(**given)

"""The nearest inputs over HTTP and by SQL, against a search by hand."""

from __future__ import annotations

import random
from typing import Any

import httpx
import numpy as np
import pytest

from headrace.control.owner import owner_key, reviewer_key
from headrace.engine import Engine
from headrace.settings import Settings
from tests.support import vectors
from tests.support.gateways import running_gateway
from tests.support.policies import set_policies

WORDS = [
    "account", "bill", "cancel", "crash", "invoice", "leave", "login", "lost", "money", "order",
    "page", "refund",
]  # fmt: skip


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors.use(monkeypatch)


def text(seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=5))


def tell(http: httpx.Client, engine: Engine, count: int = 60) -> None:
    """Inputs of two models, the other one's between; of m each fourth has a label."""
    set_policies(engine, embed_inputs="100000")
    sent = [
        {"model": model, "request_id": f"{model}{i}", "input": text(i + len(model)),
         "prediction": "stays", "event_time": f"2024-05-01T00:{i:02}:00Z"}
        for i in range(count)
        for model in ("m", "other")
    ]  # fmt: skip
    assert http.post("/v1/inferences", json=sent).status_code == 201
    said = [
        {"request_id": f"m{i}", "model": "m", "label": "leaves" if i % 8 else "stays",
         "event_time": "2024-05-01T01:00:00Z"}
        for i in range(0, count, 4)
    ]  # fmt: skip
    assert http.post("/v1/feedback", json=said).status_code == 201
    vectors.embed(engine)


def by_hand(engine: Engine, near: Any, k: int, without: str = "") -> list[tuple[str, float]]:
    """Ids and distances of the nearest of m, by all distances."""
    rows = engine.rows(
        "select request_id, embedding::real[] as v from headrace.input_vectors where model = 'm'"
    )
    found = []
    for row in rows:
        v = np.array(row["v"])
        cosine = float(v @ near / np.linalg.norm(v) / np.linalg.norm(near))
        found.append((1 - cosine, row["request_id"]))
    return [(name, gap) for gap, name in sorted(found) if name != without][:k]


def check(found: list[dict[str, Any]], expected: list[tuple[str, float]]) -> None:
    """The same distances in the same order; what is equally near may come in any order."""
    gaps = [row["distance"] for row in found]
    np.testing.assert_allclose(gaps, [gap for _, gap in expected], atol=2e-3)
    assert gaps == sorted(gaps)
    assert len({row["request_id"] for row in found}) == len(found)


def test_of_a_text_and_of_a_request(http: httpx.Client, engine: Engine) -> None:
    tell(http, engine)
    asked = "cancel refund money lost page"
    answer = http.post("/v1/neighbours", json={"model": "m", "text": asked, "k": 7})
    assert answer.status_code == 200
    body = answer.json()
    assert body["model"] == "m" and body["base"] == "words/64/1"
    words = vectors.Words()
    (state,) = words.states(words.tokenize([asked], 64))
    check(body["neighbours"], by_hand(engine, state, 7))
    for row in body["neighbours"]:
        number = int(row["request_id"].removeprefix("m"))
        label = {0: "stays", 4: "leaves"}.get(number % 8)
        assert row["label"] == label and row["event_time"] == f"2024-05-01T00:{number:02}:00Z"

    answer = http.post("/v1/neighbours", json={"model": "m", "request_id": "m7"})
    (seven,) = engine.rows(
        "select embedding::real[] as v from headrace.input_vectors where request_id = 'm7'"
    )
    expected = by_hand(engine, np.array(seven["v"]), 10, without="m7")
    check(answer.json()["neighbours"], expected)

    # analysts, by SQL, read no more than the view
    with engine.connect() as connection:
        connection.execute("set role headrace_reader")
        rows = connection.execute(
            "select near.request_id, near.distance from headrace.input_vectors as asked "
            "cross join lateral headrace.nearest_inputs("
            "asked.model, asked.base, asked.embedding, 11) as near "
            "where asked.request_id = 'm7' order by near.distance"
        ).fetchall()
    assert rows[0][0] == "m7"
    np.testing.assert_allclose(
        [gap for _, gap in rows[1:]], [gap for _, gap in expected], atol=2e-3
    )


def test_as_many_as_asked_for_among_many_others(http: httpx.Client, engine: Engine) -> None:
    """Inputs of another model are nearer and equal: the index finds these and stops."""
    set_policies(engine, embed_inputs="100000")
    near = [
        {"model": "other", "request_id": f"o{i}", "input": "cancel refund",
         "event_time": f"2024-05-01T00:{i % 60:02}:{i // 60:02}Z"}
        for i in range(600)
    ]  # fmt: skip
    far = [
        {"model": "m", "request_id": f"m{i}", "input": f"login crash order {WORDS[i % 12]}",
         "event_time": f"2024-05-01T00:{i:02}:00Z"}
        for i in range(30)
    ]  # fmt: skip
    assert http.post("/v1/inferences", json=[*near, *far]).status_code == 201
    vectors.embed(engine)
    words = vectors.Words()
    (state,) = words.states(words.tokenize(["cancel refund"], 64))
    query = (
        "select request_id, distance from headrace.nearest_inputs('m', 'words/64/1', %s, 20)",
        [str(state.tolist())],
    )
    with engine.connect() as connection:
        for setting in ("enable_sort", "enable_seqscan", "enable_bitmapscan"):
            connection.execute(f"set {setting} = off".encode())
        rows = connection.execute(query[0].replace("%s", "%s::halfvec"), query[1]).fetchall()
    found = [{"request_id": name, "distance": gap} for name, gap in rows]
    assert len(found) == 20
    check(found, by_hand(engine, state, 20))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], ""),
        ({"text": "a"}, "model"),
        ({"model": "m"}, "text"),
        ({"model": "m", "text": "a", "request_id": "r"}, "text"),
        ({"model": "m", "text": " "}, "text"),
        ({"model": "m", "text": "\x00"}, "text"),
        ({"model": "m", "text": 7}, "text"),
        ({"model": "m", "text": "a", "k": 0}, "k"),
        ({"model": "m", "text": "a", "k": 101}, "k"),
        ({"model": "m", "text": "a", "k": True}, "k"),
        ({"model": "m", "text": "a", "most": 3}, "most"),
        ({"model": "m", "text": "a"}, "model"),
        ({"model": "m", "request_id": "r"}, "request_id"),
    ],
)
def test_what_is_wrong_is_named(http: httpx.Client, body: object, field: str) -> None:
    answer = http.post("/v1/neighbours", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field


def test_it_needs_the_reviewers_key(http: httpx.Client, settings: Settings) -> None:
    body = {"model": "m", "text": "a"}
    assert http.post("/v1/neighbours", json=body, headers={"Authorization": ""}).status_code == 401
    key = reviewer_key(owner_key(settings)).value
    answer = http.post("/v1/neighbours", json=body, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 422


def test_an_engine_without_vectors_says_so(standin: Engine) -> None:
    with running_gateway(standin, standin.settings) as url:
        headers = {"Authorization": f"Bearer {owner_key(standin.settings).value}"}
        answer = httpx.post(
            f"{url}/v1/neighbours", json={"model": "m", "text": "a"}, headers=headers
        )
    assert answer.status_code == 501
    assert "HEADRACE_ENGINE=postgres" in answer.json()["error"]["message"]

"""Reviewers at a real gateway: who gets what, what is stored, and what a kill leaves."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headrace.control import policies
from headrace.engine import Engine
from headrace.settings import Settings
from tests.gateway.reviewing import ask, predict, reviewing
from tests.support.gateways import gateway_process


@pytest.fixture
def desk(url: str, settings: Settings) -> Iterator[httpx.Client]:
    with reviewing(url, settings) as client:
        yield client


def claimed(desk: httpx.Client, reviewer: str = "ann") -> dict[str, Any]:
    found = ask(desk, "claim", model="m", reviewer=reviewer)["claim"]
    assert found is not None
    return dict(found)


def labels(engine: Engine) -> dict[str, str]:
    rows = engine.rows("select request_id, label from headrace.labeled_examples")
    return {row["request_id"]: row["label"] for row in rows}


def only_one_opinion(engine: Engine) -> None:
    policies.write(engine, "m", {"review_overlap": 0})


def test_a_label_of_a_reviewer_is_what_is_trained_on(engine: Engine, desk: httpx.Client) -> None:
    """Against clicks before and after it; a label that is sent twice counts once."""
    only_one_opinion(engine)
    predict(engine, {"input": "win a prize", "features": {"links": 3}})
    shown = claimed(desk)
    assert shown["input"] == "win a prize" and shown["features"] == {"links": 3}
    assert shown["classes"] == ["ham", "spam"]
    assert shown["why"]["reason"] == "uncertain"
    for _ in range(2):
        ask(desk, "label", claim_id=shown["claim_id"], label="ham")
    predict(engine, feedback=[{"request_id": "r0", "kind": "thumbs", "value": 1}])
    assert labels(engine) == {"r0": "ham"}
    (said,) = engine.rows("select * from events.feedback where source = 'human'")
    assert (said["kind"], said["user_id"], said["model"]) == ("label", "ann", "m")
    other = desk.post("/v1/review/label", json={"claim_id": shown["claim_id"], "label": "spam"})
    assert other.status_code == 422 and other.json()["error"]["field"] == "label"
    told = ask(desk, "claim", model="m", reviewer="ann")
    assert (told["claim"], told["waiting"], told["labeled_by_you"]) == (None, 0, 1)


def test_of_a_model_without_predictions_there_is_nothing(desk: httpx.Client) -> None:
    told = ask(desk, "claim", model="unheard", reviewer="ann")
    assert (told["claim"], told["waiting"]) == (None, 0)


def test_reviewers_at_once_never_have_the_same(
    engine: Engine, url: str, settings: Settings
) -> None:
    only_one_opinion(engine)
    predict(engine, *[{}] * 12)
    given: list[str] = []

    def review(reviewer: str) -> None:
        with reviewing(url, settings) as client:
            while claim := ask(client, "claim", model="m", reviewer=reviewer)["claim"]:
                given.append(claim["request_id"])
                ask(client, "label", claim_id=claim["claim_id"], label="ham")

    people = [threading.Thread(target=review, args=[f"p{number}"]) for number in range(4)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    assert sorted(given) == sorted(f"r{number}" for number in range(12))
    assert len(labels(engine)) == 12


def test_a_share_is_labelled_twice_and_a_dispute_by_a_third(
    engine: Engine, desk: httpx.Client
) -> None:
    policies.write(engine, "m", {"review_overlap": 1})
    predict(engine, {}, {})
    said = {"ann": ("ham", "spam"), "bob": ("ham", "ham"), "cat": ("spam",)}
    for reviewer, answers in said.items():
        for answer in answers:
            shown = claimed(desk, reviewer)
            ask(desk, "label", claim_id=shown["claim_id"], label=answer)
        assert ask(desk, "claim", model="m", reviewer=reviewer)["claim"] is None
    assert shown["why"]["reason"] == "disputed"
    assert labels(engine) == {"r0": "ham", "r1": "spam"}
    rows = engine.rows(
        "select reviewer, other_reviewer, predictions, agreeing, kappa "
        "from headrace.review_agreement where other_reviewer is not null order by 1, 2"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("ann", "bob", 2, 1, 0.0), ("ann", "cat", 1, 1, None), ("bob", "cat", 1, 0, 0.0)
    ]  # fmt: skip


def test_a_shadow_that_disagrees_comes_first(engine: Engine, desk: httpx.Client) -> None:
    shadow = {
        "variant": "shadow", "shadow_of": "r1", "request_id": "s", "prediction": "ham",
        "model_version": "8",
    }  # fmt: skip
    predict(engine, {}, {}, shadow)
    shown = claimed(desk)
    assert (shown["request_id"], shown["why"]["reason"]) == ("r1", "disagreement")
    assert [answer["prediction"] for answer in shown["answers"]] == ["spam", "ham"]


def test_a_claim_ends_with_its_lease(engine: Engine, desk: httpx.Client) -> None:
    predict(engine, {})
    first = claimed(desk, "ann")
    assert claimed(desk, "ann")["claim_id"] == first["claim_id"]
    assert ask(desk, "claim", model="m", reviewer="bob")["claim"] is None
    policies.write(engine, "m", {"review_lease": "0 seconds"})
    with engine.connect() as connection:
        connection.execute("update control.reviews set expires_at = now() - interval '1 second'")
    second = claimed(desk, "bob")
    assert second["request_id"] == "r0" and second["claim_id"] != first["claim_id"]
    late = desk.post("/v1/review/label", json={"claim_id": first["claim_id"], "label": "ham"})
    assert late.status_code == 422 and late.json()["error"]["field"] == "claim_id"
    # Its lease is over, too, and nobody else wants it.
    ask(desk, "label", claim_id=second["claim_id"], label="ham")


def test_what_is_skipped_is_left_to_others_and_comes_last(
    engine: Engine, desk: httpx.Client
) -> None:
    predict(engine, {}, {})
    shown = claimed(desk, "ann")
    ask(desk, "skip", claim_id=shown["claim_id"])
    second = claimed(desk, "ann")
    assert (shown["request_id"], second["request_id"]) == ("r0", "r1")
    refused = desk.post("/v1/review/label", json={"claim_id": shown["claim_id"], "label": "ham"})
    assert refused.status_code == 422
    listed = desk.get("/v1/review", params={"model": "m"}).json()
    assert [(item["request_id"], item["claimed_by"]) for item in listed["items"]] == [
        ("r1", "ann"), ("r0", None)
    ]  # fmt: skip
    assert claimed(desk, "bob")["request_id"] == "r0"


def test_undo_takes_back_and_gives_again(engine: Engine, desk: httpx.Client) -> None:
    only_one_opinion(engine)
    predict(engine, {})
    shown = claimed(desk)
    ask(desk, "label", claim_id=shown["claim_id"], label="spam")
    again = ask(desk, "undo", claim_id=shown["claim_id"])
    assert labels(engine) == {} and again["labeled_by_you"] == 0
    assert ask(desk, "undo", claim_id=shown["claim_id"])["claim"] == again["claim"]
    ask(desk, "label", claim_id=again["claim"]["claim_id"], label="ham")
    assert labels(engine) == {"r0": "ham"}
    third = ask(desk, "undo", claim_id=again["claim"]["claim_id"])["claim"]
    ask(desk, "skip", claim_id=third["claim_id"])
    fourth = ask(desk, "undo", claim_id=third["claim_id"])["claim"]
    assert fourth["request_id"] == "r0" and fourth["why"]["reason"] == "uncertain"


def test_a_killed_gateway_leaves_the_queue_right(engine: Engine, settings: Settings) -> None:
    """Killed at any moment: each prediction is labelled once, and none is lost."""
    only_one_opinion(engine)
    predict(engine, *[{}] * 6)
    given: Counter[str] = Counter()
    sent: dict[str, str] = {}  # labels that were sent, maybe without an answer
    for attempt in range(3):
        with gateway_process(settings) as (process, url), reviewing(url, settings) as client:
            killing = threading.Timer(0.15 * (attempt + 1), process.kill)
            if attempt < 2:
                killing.start()
            try:
                for claim_id, label in sent.items():
                    ask(client, "label", claim_id=claim_id, label=label)
                sent.clear()
                while claim := ask(client, "claim", model="m", reviewer="ann")["claim"]:
                    given[claim["request_id"]] += 1
                    sent[claim["claim_id"]] = "ham"
                    ask(client, "label", claim_id=claim["claim_id"], label="ham")
                    sent.clear()
            except httpx.TransportError:
                continue
            finally:
                killing.cancel()
    stored = engine.rows("select request_id from events.feedback")
    assert sorted(row["request_id"] for row in stored) == [f"r{number}" for number in range(6)]
    assert len(labels(engine)) == 6 and set(given) == set(labels(engine))


@pytest.mark.parametrize("what", ["claim", "label", "skip", "undo"])
def test_without_the_key_nothing_is_shown_or_done(engine: Engine, url: str, what: str) -> None:
    predict(engine, {"input": "secret"})
    body = {"model": "m", "reviewer": "ann", "claim_id": "x", "label": "ham"}
    for headers in ({}, {"Authorization": "Bearer guessed"}):
        refused = httpx.post(f"{url}/v1/review/{what}", json=body, headers=headers)
        assert refused.status_code == 401 and "secret" not in refused.text
        assert httpx.get(f"{url}/v1/review?model=m", headers=headers).status_code == 401
    assert engine.rows("select * from control.reviews") == []


def test_the_reviewers_key_changes_no_policy_and_the_owners_reviews(
    http: httpx.Client, desk: httpx.Client
) -> None:
    changed = desk.put("/v1/models/m/policies", json={"min_new_labels": 1})
    assert changed.status_code == 401
    assert http.get("/v1/review").json() == {"models": []}


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("claim", {"model": "m"}, "reviewer"),
        ("claim", {"model": "m", "reviewer": ""}, "reviewer"),
        ("claim", {"model": "m", "reviewer": "a\nb"}, "reviewer"),
        ("claim", {"model": "m", "reviewer": "x" * 513}, "reviewer"),
        ("claim", {"model": "m", "reviewer": "\ud800"}, "reviewer"),
        ("claim", {"model": 3, "reviewer": "ann"}, "model"),
        ("claim", {"model": "m", "reviewer": "ann", "more": 1}, "more"),
        ("label", {"claim_id": "nobody's", "label": "ham"}, "claim_id"),
        ("label", {"claim_id": "\0", "label": "ham"}, "claim_id"),
        ("label", {"claim_id": ["x"], "label": "ham"}, "claim_id"),
        ("label", {"claim_id": "CLAIM", "label": {"a": 1}}, "label"),
        ("label", {"claim_id": "CLAIM", "label": " "}, "label"),
        ("label", {"claim_id": "CLAIM"}, "label"),
        ("skip", {"claim_id": None}, "claim_id"),
        ("undo", {"claim_id": "CLAIM"}, "claim_id"),
        ("undo", [], ""),
    ],
)
def test_bad_requests_name_the_field(
    engine: Engine, desk: httpx.Client, what: str, body: Any, field: str
) -> None:
    predict(engine, {})
    if "CLAIM" in str(body):
        body = {**body, "claim_id": claimed(desk)["claim_id"]}
    response = desk.post(
        f"/v1/review/{what}", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert response.status_code == 422, response.text
    assert response.json()["error"]["field"] == field
    assert engine.rows("select * from events.feedback") == []

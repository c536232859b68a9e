"""Shadows and the holdback beside canary and champion: what is answered, and what is logged."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import Any

import httpx
import pytest

from headrace.control import policies
from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.gateway.assignment import place
from headrace.settings import Settings
from tests.gateway.published import Published, publish, request, wait_for
from tests.support.gateways import gateway_process
from tests.support.waiting import until

REQUESTS = [
    {
        **request(number), "request_id": f"r-{number}", "user_id": f"u-{number % 20}",
        "session_id": f"s-{number}",
    }
    for number in range(60)
]  # fmt: skip


@pytest.fixture
def http(serving: httpx.Client) -> httpx.Client:
    return serving


def logged(engine: Engine, variant: str) -> dict[str, dict[str, Any]]:
    rows = engine.rows("select * from events.inference where variant = %s", [variant])
    return {row["request_id"]: row for row in rows}


def stored(engine: Engine) -> int:
    return len(engine.rows("select from events.inference"))


def alerts(engine: Engine) -> list[tuple[str, str]]:
    rows = engine.rows(
        "select subject, severity from headrace.alerts where alert = 'not_loaded' order by 1"
    )
    return [(row["subject"], row["severity"]) for row in rows]


def predict(http: httpx.Client, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    response = http.post("/v1/predict", json=batch)
    assert response.status_code == 200, response.text
    answers: list[dict[str, Any]] = response.json()
    return answers


def test_a_shadow_answers_the_same_requests_unseen(
    http: httpx.Client, engine: Engine, published: Published
) -> None:
    publish(engine, published.event("2", "shadow"))
    wait_for(http, "2")
    answers = predict(http, REQUESTS)
    assert {answer["model_version"] for answer in answers} == {"1"}
    until(lambda: len(logged(engine, "shadow")) == len(REQUESTS))
    predict(http, REQUESTS[::-1])  # a client that sends them again
    served = logged(engine, "champion")
    for row in logged(engine, "shadow").values():
        beside = served[row["shadow_of"]]
        same = ("model", "segment", "user_id", "session_id", "features", "event_time")
        assert {name: row[name] for name in same} == {name: beside[name] for name in same}
        assert row["model_version"] == "2" and row["error"] is None and row["latency_ms"] > 0
        number = int(beside["request_id"].removeprefix("r-"))
        published.check(number, {**row, "scores": row["probabilities"]})
    counted = 'headrace_shadow_predictions_total{outcome="answered"} 120.0'
    until(lambda: counted in http.get("/metrics").text)
    (row,) = engine.rows("select * from headrace.shadow_agreement")
    assert (row["shadow_version"], row["served_version"], row["predictions"]) == ("2", "1", 60)
    assert engine.rows("select differing from headrace.conflicting_events") == []


def test_units_that_are_held_back_get_the_oldest_version_and_nothing_of_the_loop(
    http: httpx.Client, engine: Engine, published: Published
) -> None:
    policies.write(engine, "m", {"holdback": 0.5})
    shutil.copytree(published.paths["1"], published.root / "3")
    for version, event, fields in (
        ("2", "promoted", {}), ("gone", "promoted", {}), ("3", "canary", {"traffic": 1.0}),
        ("2", "promoted", {}),
    ):  # fmt: skip
        publish(engine, published.event(version, event, **fields))
    publish(engine, published.event("4", "shadow", artifact_uri=str(published.root / "3")))
    wait_for(http, "4")
    held = {user for user in (f"u-{n}" for n in range(20)) if place(user, "holdout", "m") < 0.5}
    assert 0 < len(held) < 20
    for asked, answer in zip(REQUESTS, predict(http, REQUESTS), strict=True):
        wanted = ("1", "holdout") if asked["user_id"] in held else ("3", "canary")
        assert (answer["model_version"], answer["variant"]) == wanted
    canaries = sum(asked["user_id"] not in held for asked in REQUESTS)
    until(lambda: len(logged(engine, "shadow")) == canaries)
    assert {row["user_id"] for row in logged(engine, "shadow").values()}.isdisjoint(held)
    (row,) = engine.rows("select * from headrace.holdout_comparison")
    assert (row["predictions"], row["holdout_predictions"]) == (canaries, 60 - canaries)

    one = [{**request(0), "user_id": min(held)}]
    policies.write(engine, "m", {"holdback_version": "2"})
    until(lambda: predict(http, one)[0]["model_version"] == "2")
    # The units of a version that is named and cannot be loaded are nobody's in particular.
    policies.write(engine, "m", {"holdback_version": "gone"})
    until(lambda: predict(http, one)[0]["variant"] == "canary")
    until(lambda: alerts(engine) == [("gone", "warning")])


def test_a_share_that_is_held_back_has_bounds(engine: Engine) -> None:
    with pytest.raises(ContractError, match=r"a number from 0 to 0\.5"):
        policies.write(engine, "m", {"holdback": 0.6})


def test_the_story_is_one_when_a_gateway_is_killed_with_canary_and_shadow(
    engine: Engine, settings: Settings, published: Published
) -> None:
    shutil.copytree(published.paths["1"], published.root / "3")
    publish(engine, published.event("1"))
    publish(engine, published.event("2", "canary", traffic=0.5))
    publish(engine, published.event("3", "shadow"))
    sides: list[dict[str, str]] = []
    for kill in (True, False):
        with (
            gateway_process(settings) as (process, url),
            httpx.Client(base_url=url, timeout=60) as http,
        ):
            wait_for(http, "3")
            answers = predict(http, REQUESTS)
            sides.append({one["request_id"]: one["model_version"] for one in answers})
            if kill:
                process.kill()
                process.wait()
            else:
                until(lambda: stored(engine) == 2 * len(REQUESTS))
    assert sides[0] == sides[1]
    of_user = Counter((asked["user_id"], sides[0][asked["request_id"]]) for asked in REQUESTS)
    assert len(of_user) == 20 and {version for _, version in of_user} == {"1", "2"}
    (row,) = engine.rows(
        "select count(*) as n, count(distinct (request_id, model)) as ids from events.inference"
    )
    assert row["n"] == row["ids"] == 2 * len(REQUESTS)
    assert {row["shadow_of"] for row in logged(engine, "shadow").values()} == set(sides[0])
    assert engine.rows("select differing from headrace.conflicting_events") == []

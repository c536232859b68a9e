"""Answers that are chosen and lists that are ordered: by the gateway, and as the views see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.model.artifact import Manifest, Run, draft_folder, publish_draft
from headrace.model.inputs import Example
from headrace.model.recipe import Recipe, TrainingExample, TrainingSet
from headrace.model.together import alone, answering
from headrace.settings import Settings
from headrace.trainer.recipes import find, load
from tests.gateway.published import Published, example, publish, request, wait_for
from tests.support.gateways import running_gateway
from tests.support.policies import set_policies
from tests.support.waiting import until

RATE = 0.4


@pytest.fixture
def exploring(
    engine: Engine, settings: Settings, published: Published, request: pytest.FixtureRequest
) -> Iterator[httpx.Client]:
    """A client of a gateway whose model explores, with the policies that a test names."""
    set_policies(engine, "m", explore_rate=str(RATE), min_sample="1", **request.param)
    publish(engine, published.event("1"))
    with (
        running_gateway(engine, settings) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        wait_for(client, "1")
        yield client


def items(number: int, **more: Any) -> dict[str, Any]:
    candidates = [
        {"item_id": f"i{place}", "features": request(place)["features"]} for place in range(6)
    ]
    return {"model": "m", "request_id": f"list {number}", "user_id": f"u{number}",
            "segment": "s0", "candidates": candidates, **more}  # fmt: skip


@pytest.mark.parametrize("exploring", [{"explore": "epsilon"}], indirect=True)
def test_what_was_chosen_is_logged_as_it_was_and_worth_what_was_earned(
    engine: Engine, exploring: httpx.Client
) -> None:
    sent = [{**request(n % 30), "request_id": f"r{n}", "user_id": f"u{n}"} for n in range(300)]
    answers = exploring.post("/v1/predict", json=sent[:150]).json()
    answers += exploring.post("/v1/predict", json=sent[150:]).json()
    again = exploring.post("/v1/predict", json=sent[0]).json()
    assert (again["prediction"], again["propensity"]) == (
        answers[0]["prediction"], answers[0]["propensity"]
    )  # fmt: skip
    chances = Counter(round(answer["propensity"], 6) for answer in answers)
    assert set(chances) == {1 - RATE / 2, RATE / 2}
    assert abs(chances[RATE / 2] - 300 * RATE / 2) < 4 * np.sqrt(300 * 0.2 * 0.8)
    for answer in answers:
        scores = answer["scores"]
        is_best = answer["prediction"] == max(scores, key=scores.get)
        assert is_best == (answer["propensity"] > 0.5)
        assert answer["score"] == scores["yes"]
    until(lambda: len(engine.rows("select 1 from events.inference")) == 300)
    with EventLog(engine) as log:
        log.append("feedback", [
            parse("feedback", {"request_id": answer["request_id"], "kind": "conversion",
                               "value": float(answer["prediction"] == "yes")})
            for answer in answers
        ])  # fmt: skip
    rows = {row["target_policy"]: row for row in engine.rows("select * from headrace.policy_value")}
    earned = np.mean([answer["prediction"] == "yes" for answer in answers])
    assert rows["as logged"]["ips"] == pytest.approx(earned)
    always = rows["always yes"]
    assert abs(always["ips"] - 1) < 3 * (always["ips_high"] - always["ips"]) / 1.96 + 1e-9
    assert engine.rows("select * from events.conflicts") == []


@pytest.mark.parametrize("exploring", [{"explore": "boltzmann"}], indirect=True)
def test_a_list_is_ordered_and_each_item_logged_with_its_place(
    engine: Engine, exploring: httpx.Client
) -> None:
    told = [exploring.post("/v1/rank", json=items(n)).json() for n in range(40)]
    firsts = Counter(one["items"][0]["item_id"] for one in told)
    assert len(firsts) > 1
    for one in told:
        shown = one["items"]
        assert [item["position"] for item in shown] == [1, 2, 3, 4, 5, 6]
        assert {item["item_id"] for item in shown} == {f"i{place}" for place in range(6)}
        left, temperature = list(shown), 0.1
        for item in shown:
            weights = np.exp(np.array([each["score"] for each in left]) / temperature)
            chance = (1 - RATE) * weights[left.index(item)] / weights.sum() + RATE / len(left)
            assert item["propensity"] == pytest.approx(chance, rel=1e-6)
            left.remove(item)
    until(lambda: len(engine.rows("select 1 from events.inference")) == 240)
    stored = engine.rows("select * from events.inference order by request_id, position")
    by_item = {(one["request_id"], item["item_id"]): item for one in told for item in one["items"]}
    for row in stored:
        item = by_item[row["request_id"], row["item_id"]]
        assert (row["position"], row["propensity"]) == (item["position"], item["propensity"])
    clicks = [
        {"request_id": row["request_id"], "model": "m", "item_id": row["item_id"],
         "kind": "click", "value": float(row["item_id"] == "i3")}
        for row in stored
    ]  # fmt: skip
    with EventLog(engine) as log:
        log.append("feedback", [parse("feedback", click) for click in clicks])
    arms = engine.rows("select * from headrace.arm_stats")
    assert {row["arm"]: row["mean_reward"] for row in arms} == {
        f"i{place}": float(place == 3) for place in range(6)
    }


@pytest.mark.parametrize("exploring", [{"explore": "epsilon", "holdback": "0.5"}], indirect=True)
def test_the_holdback_is_not_explored(exploring: httpx.Client) -> None:
    answers = exploring.post(
        "/v1/predict", json=[{**request(n % 30), "user_id": f"u{n}"} for n in range(100)]
    ).json()
    held = [answer for answer in answers if answer["variant"] == "holdout"]
    assert 20 < len(held) < 80
    for answer in held:
        assert answer["prediction"] == max(answer["scores"], key=answer["scores"].get)
        assert answer["propensity"] is None


@pytest.mark.parametrize("exploring", [{"explore": "dropout"}], indirect=True)
def test_passes_with_dropout_choose(exploring: httpx.Client, published: Published) -> None:
    answers = exploring.post(
        "/v1/predict", json=[{**request(n % 30), "request_id": f"r{n}"} for n in range(60)]
    ).json()
    assert {round(answer["propensity"], 6) for answer in answers} == {1 - RATE / 2, RATE / 2}
    _, version = load(published.paths["1"])
    passes = alone(answering(version, [example(0), example(1)], 50)).passes
    assert passes is not None and passes.shape == (50, 2, 2)
    np.testing.assert_allclose(passes.sum(2), 1)


@pytest.mark.parametrize("exploring", [{"explore": "off"}], indirect=True)
def test_lists_that_cannot_be_ordered(exploring: httpx.Client) -> None:
    best_first = exploring.post("/v1/rank", json=items(0)).json()["items"]
    scores = [item["score"] for item in best_first]
    assert scores == sorted(scores, reverse=True)
    assert {item["propensity"] for item in best_first} == {1.0}
    for wrong, said in (
        ({"candidates": []}, "candidates: must be an array of 1 to 500 objects"),
        ({"candidates": [{"features": {}}]}, "each with an item_id"),
        ({"candidates": [{"item_id": "a"}, {"item_id": "a"}]}, "items each named once"),
        ({"candidates": [{"item_id": "a", "price": 3}]}, "candidates.price"),
        ({"item_id": "a"}, "item_id: must be given with each candidate"),
        ({"colour": "red"}, "colour: must be a known field"),
    ):
        response = exploring.post("/v1/rank", json=items(1, **wrong))
        assert response.status_code == 422, (wrong, response.text)
        assert said in response.json()["error"]["message"]


def test_a_list_is_ordered_by_what_is_known_of_its_items(
    engine: Engine, settings: Settings
) -> None:
    recipe: Recipe = find("ranking")
    asked = [Example("", "s", {"item_id": f"i{n % 4}"}) for n in range(200)]
    train = [
        TrainingExample(one, str(int(n % 4 == 2)), position=1, propensity=1)
        for n, one in enumerate(asked)
    ]
    with draft_folder(settings.artifacts_path.resolve(), "m", Run("run", 1)) as draft:
        data = TrainingSet("m", "ranking", train)
        recipe.fit(data, None, recipe.Config(steps=100), lambda *_: None, draft)
        manifest = Manifest(recipe="ranking", task="ranking", ids=("item_id",))
        folder = publish_draft(draft, "m", "v1", manifest, "")
    event = {"model": "m", "model_version": "v1", "event": "promoted", "artifact_uri": str(folder)}
    publish(engine, event)
    candidates = [{"item_id": f"i{n}"} for n in range(4)]
    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "v1")
        sent = {"model": "m", "segment": "s", "candidates": candidates}
        told = http.post("/v1/rank", json=sent).json()
    assert told["items"][0]["item_id"] == "i2"
    assert told["items"][0]["score"] > 2 * told["items"][1]["score"]

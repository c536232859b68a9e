"""Predictions: what they are, how they are logged, and which version a request gets."""

from __future__ import annotations

import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from headrace.control import policies
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.labels import label_text
from headrace.events.log import EventLog
from headrace.gateway.assignment import place
from headrace.model.artifact import Manifest, Run, draft_folder, publish_draft
from headrace.model.config import FinetuneConfig
from headrace.model.finetune import finetune
from headrace.model.inputs import Example
from headrace.model.recipe import Recipe, Task, TrainingExample, TrainingSet
from headrace.settings import Settings
from headrace.trainer.recipes import find
from tests.gateway.published import Published, publish, request, wait_for
from tests.support.gateways import gateway_process, running_gateway


@pytest.fixture
def http(serving: httpx.Client) -> httpx.Client:
    return serving


def test_an_answer_names_its_version_and_is_logged_as_it_was_served(
    engine: Engine, settings: Settings, published: Published
) -> None:
    publish(engine, published.event("1"))
    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "1")
        sent = {
            **request(4), "request_id": "r", "user_id": "u", "session_id": "s", "item_id": "i",
            "endpoint": "/triage", "event_time": "2024-05-01T12:00:00Z",
        }  # fmt: skip
        response = http.post("/v1/predict", json=sent)
        answer = response.json()
        assert response.status_code == 200
        assert answer["request_id"] == "r"
        assert (answer["model_version"], answer["variant"]) == ("1", "champion")
        published.check(4, answer)
    row = engine.rows("select * from events.inference")[0]
    for name in ("request_id", "input", "features", "segment", "user_id", "session_id", "item_id",
                 "endpoint"):  # fmt: skip
        assert row[name] == sent[name]
    for name in ("model_version", "variant", "prediction", "score", "latency_ms"):
        assert row[name] == answer[name]
    assert row["probabilities"] == answer["scores"]
    assert row["event_time"].isoformat() == "2024-05-01T12:00:00+00:00"


@pytest.mark.parametrize("old", [("true", "false"), ("Yes", "True", "true")])
def test_a_version_with_labels_of_before_answers_in_the_classes_of_now(
    engine: Engine, settings: Settings, old: tuple[str, ...]
) -> None:
    examples = [Example("", "s", {"size": float(number)}) for number in range(30)]
    train = [TrainingExample(one, old[n % len(old)]) for n, one in enumerate(examples)]
    folder = settings.artifacts_path.resolve() / "m" / "v1"
    finetune(train, config=FinetuneConfig(tabular_steps=5)).save(folder)
    event = {"model": "m", "model_version": "v1", "event": "promoted", "artifact_uri": str(folder)}
    publish(engine, event)
    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "v1")
        asked = {"model": "m", "request_id": "r", "segment": "s", "features": {"size": 3.0}}
        answer = http.post("/v1/predict", json=asked).json()
    assert set(answer["scores"]) == {label_text(label) for label in old}
    assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)
    (row,) = engine.rows("select prediction, probabilities from events.inference")
    assert (row["prediction"], row["probabilities"]) == (answer["prediction"], answer["scores"])


@pytest.mark.parametrize("task", ["regression", "ranking"])
def test_numbers_are_served(engine: Engine, settings: Settings, task: Task) -> None:
    recipe: Recipe = find("ranking" if task == "ranking" else "tabular")
    examples = [Example("", "s", {"size": float(number)}) for number in range(60)]
    labels = [str(n > 30 if task == "ranking" else 1_000.0 * n) for n in range(60)]
    train = [
        TrainingExample(one, label.replace("True", "1").replace("False", "0"))
        for one, label in zip(examples, labels, strict=True)
    ]
    root = settings.artifacts_path.resolve()
    with draft_folder(root, "m", Run("run", 1)) as draft:
        data = TrainingSet("m", task, train)
        recipe.fit(data, None, recipe.Config(steps=20), lambda *_: None, draft)
        manifest = Manifest(recipe="ranking" if task == "ranking" else "tabular", task=task)
        folder = publish_draft(draft, "m", "v1", manifest, "")
    event = {"model": "m", "model_version": "v1", "event": "promoted", "artifact_uri": str(folder)}
    publish(engine, event)
    expected = float(recipe.load(folder).predict(examples[40:41])[0])
    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "v1")
        asked = {"model": "m", "request_id": "r", "segment": "s", "features": {"size": 40.0}}
        response = http.post("/v1/predict", json=asked)
        assert response.status_code == 200, response.text
        answer = response.json()
    (row,) = engine.rows("select prediction, score, probabilities from events.inference")
    assert row["probabilities"] is None
    if task == "regression":
        assert float(answer["prediction"]) == pytest.approx(expected, rel=1e-5)
        assert float(row["prediction"]) == pytest.approx(expected, rel=1e-5)
    else:
        assert answer["score"] == row["score"] == pytest.approx(expected, rel=1e-5)


def test_text_is_short_for_input(http: httpx.Client) -> None:
    base = request(1)
    text = base.pop("input")["text"]
    answers = [
        http.post("/v1/predict", json={**base, **more}).json()
        for more in ({"text": text}, {"input": text}, {"input": {"a": text, "n": 1}})
    ]
    assert len({answer["score"] for answer in answers}) == 1


def test_bad_items_of_a_batch_take_no_other_with_them(
    http: httpx.Client, published: Published
) -> None:
    batch = [request(0), {"model": "m", "colour": 1}, {"model": "unknown"}, request(3), 5]
    response = http.post("/v1/predict", json=batch)
    answers = response.json()
    assert response.status_code == 422
    published.check(0, answers[0])
    published.check(3, answers[3])
    assert [answers[at]["error"]["type"] for at in (1, 2, 4)] == [
        "contract", "not_served", "contract",
    ]  # fmt: skip
    assert answers[1]["error"]["field"] == "colour"


def test_an_array_is_one_batch(http: httpx.Client, published: Published) -> None:
    def counted() -> list[float]:
        label = '{model="m",model_version="1"}'
        lines = dict(line.rsplit(" ", 1) for line in http.get("/metrics").text.splitlines())
        names = ("batch_rows_count", "batch_rows_sum", "queue_seconds_count")
        return [float(lines.get(f"headrace_{name}{label}", 0)) for name in names]

    before = counted()
    answers = http.post("/v1/predict", json=[request(number) for number in range(50)]).json()
    for number, answer in enumerate(answers):
        published.check(number, answer)
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 50, 50]


def test_a_canary_gets_its_share_and_a_request_stays_where_it_was(
    http: httpx.Client, engine: Engine, published: Published
) -> None:
    publish(engine, published.event("2", "canary", traffic=0.3))
    wait_for(http, "2")
    batch = [{**request(number), "request_id": f"r-{number}"} for number in range(300)]
    first = http.post("/v1/predict", json=batch).json()
    again = http.post("/v1/predict", json=batch[::-1]).json()[::-1]
    for number, (one, other) in enumerate(zip(first, again, strict=True)):
        published.check(number, one)
        assert one["model_version"] == other["model_version"]
        assert one["variant"] == {"1": "champion", "2": "canary"}[one["model_version"]]
    # The second answers took another time, and were computed in other company.
    assert engine.rows("select differing from headrace.conflicting_events") == []
    http.post("/v1/predict", json={**batch[0], "segment": "other"})
    assert "segment" in kept_out(engine)
    wanted = sum(place(f"r-{number}", "canary", "m", "2") < 0.3 for number in range(300))
    assert Counter(one["model_version"] for one in first) == {"1": 300 - wanted, "2": wanted}
    assert 60 < wanted < 120


def kept_out(engine: Engine) -> str:
    """Wait for a conflict, as inferences are stored behind their answers; return what differs."""
    query = "select differing from headrace.conflicting_events"
    deadline = time.monotonic() + 60
    while not (rows := engine.rows(query)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return str(rows[0]["differing"])


def test_features_of_the_live_views_are_read_and_logged_as_served(
    engine: Engine, settings: Settings
) -> None:
    from headrace.features.reader import FeatureReader
    from headrace.model.finetune import finetune
    from headrace.model.weights import load_adapter

    place = settings.artifacts_path.resolve() / "1"
    rate = "segment_features__positive_rate_30d"
    train = [
        TrainingExample(Example("", "s", {rate: number % 10 / 10}), "ny"[number % 10 > 4])
        for number in range(40)
    ]
    finetune(train, config=FinetuneConfig(tabular_steps=20)).save(place)
    with EventLog(engine) as log:
        for number in range(8):
            event = {"model": "m", "request_id": f"old-{number}", "segment": "s", "score": 0.5}
            log.append("inference", [parse("inference", {**event, "prediction": "y"})])
            label = {"request_id": f"old-{number}", "label": "ny"[number > 1]}
            log.append("feedback", [parse("feedback", label)])
        event = {"model": "m", "model_version": "1", "event": "promoted"}
        artifact = {"artifact_uri": str(place)}
        log.append("model_events", [parse("model_events", {**event, **artifact})])
    policies.write(engine, "m", {"positive_label": "y"})
    with FeatureReader(engine) as reader:
        served = reader.online([{"model": "m", "segment": "s"}])[0][rate]
    assert served == pytest.approx(0.75)

    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "1")
        asked = {"model": "m", "features": {"own": 1}}
        known = http.post("/v1/predict", json={**asked, "segment": "s"}).json()
        unknown = http.post("/v1/predict", json={**asked, "segment": "t"}).json()
        given = http.post("/v1/predict", json={**asked, "segment": "s", "features": {rate: 0.1}})
    adapter = load_adapter(place)
    for answer, segment, value in (
        (known, "s", served),
        (unknown, "t", None),
        (given.json(), "s", 0.1),
    ):
        assert value is None or isinstance(value, float)
        expected = adapter.predict([Example("", segment, {rate: value})])[0]
        assert list(answer["scores"].values()) == pytest.approx(list(expected), abs=1e-5)
        query = "select features from events.inference where request_id = %s"
        features = engine.rows(query, [answer["request_id"]])[0]["features"]
        assert features[rate] == value


def test_a_clean_stop_loses_no_logged_inference(
    engine: Engine, settings: Settings, published: Published
) -> None:
    publish(engine, published.event("1"))
    answered: list[str] = []

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while True:
                try:
                    response = client.post("/v1/predict", json=request(len(answered)))
                except httpx.HTTPError:
                    return
                if response.status_code == 200:
                    answered.append(response.json()["request_id"])

    with gateway_process(settings) as (process, url):
        with httpx.Client(base_url=url, timeout=60) as http:
            wait_for(http, "1")
        with ThreadPoolExecutor(4) as pool:
            askers = [pool.submit(ask, url) for _ in range(4)]
            while len(answered) < 50:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            for asker in askers:
                asker.result()
        assert process.wait(60) == 0
    stored = {row["request_id"] for row in engine.rows("select request_id from events.inference")}
    assert set(answered) <= stored

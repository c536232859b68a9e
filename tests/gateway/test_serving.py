"""Predictions: the right version answers, whole, while versions come and go."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.gateway.serving import place_of
from headrace.model.inputs import Example
from headrace.settings import Settings
from tests.gateway.conftest import running_gateway
from tests.gateway.test_http import gateway_process

TEXTS = ["short", "a longer text about nothing", "words " * 40, "", "overflow in the parser"]
NUMBERS = [0.0, 3.5, 120.0]


def example(number: int) -> Example:
    return Example(
        TEXTS[number % len(TEXTS)],
        f"s{number % 2}",
        {"size": NUMBERS[number % len(NUMBERS)], "kind": "ab"[number % 2]},
    )


def request(number: int) -> dict[str, Any]:
    one = example(number)
    return {
        "model": "m", "input": {"text": one.text}, "segment": one.segment,
        "features": dict(one.features),
    }  # fmt: skip


class Published:
    """Two real versions on disk that disagree, and what each of them answers."""

    def __init__(self, folder: Path) -> None:
        from headrace.model.artifact import load_adapter
        from headrace.model.network import load_backbone, predict
        from headrace.trainer.activations import ActivationCache
        from headrace.trainer.finetune import TrainingExample, finetune

        backbone = load_backbone("cpu")
        cache = ActivationCache(backbone)
        self.paths: dict[str, Path] = {}
        self.expected: dict[str, np.ndarray[Any, Any]] = {}
        examples = [example(number) for number in range(30)]
        for version, labels in (("1", ("no", "yes")), ("2", ("yes", "no"))):
            train = [
                TrainingExample(one, labels[number % 2]) for number, one in enumerate(examples)
            ]
            path = folder / version
            finetune(train, cache=cache).save(path, version)
            self.paths[version] = path
            self.expected[version] = predict(load_adapter(path, backbone), backbone, examples)
        assert np.abs(self.expected["1"] - self.expected["2"]).max(axis=1).min() > 0.05

    def copy_to(self, root: Path) -> None:
        """Put the versions where `event` says they are."""
        self.root = root.resolve()
        for version, path in self.paths.items():
            shutil.copytree(path, self.root / version)

    def event(self, version: str, event: str = "promoted", **fields: Any) -> dict[str, Any]:
        return {
            "model": "m", "model_version": version, "event": event,
            "artifact_uri": str(self.root / version), **fields,
        }  # fmt: skip

    def check(self, number: int, answer: dict[str, Any]) -> None:
        """The answer is what the version that it names gives, and no other."""
        expected = self.expected[answer["model_version"]][number % 30]
        scores = [answer["scores"]["no"], answer["scores"]["yes"]]
        np.testing.assert_allclose(scores, expected, atol=2e-3)
        assert answer["score"] == answer["scores"]["yes"]
        assert answer["prediction"] == ("no", "yes")[int(np.argmax(scores))]


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return Published(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture
def published(versions: Published, engine: Engine) -> Published:
    versions.copy_to(engine.settings.artifacts_path)
    return versions


def publish(engine: Engine, event: dict[str, Any]) -> None:
    with EventLog(engine) as log:
        log.append("model_events", [parse("model_events", event)])


def wait_for(http: httpx.Client, version: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        plan = http.get("/v1/plan").json()["versions"]
        if any(row["model_version"] == version and row["loaded"] for row in plan):
            return
        time.sleep(0.05)
    raise AssertionError(f"version {version} was not loaded: {plan}")


@pytest.fixture
def http(engine: Engine, settings: Settings, published: Published) -> Iterator[httpx.Client]:
    publish(engine, published.event("1"))
    with (
        running_gateway(engine, settings) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        wait_for(client, "1")
        yield client


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
    assert row["output"] == {"scores": answer["scores"]}
    assert row["event_time"].isoformat() == "2024-05-01T12:00:00+00:00"


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


def test_versions_are_swapped_under_load_without_a_failed_or_mixed_answer(
    http: httpx.Client, engine: Engine, published: Published
) -> None:
    stopping = threading.Event()
    answers: list[tuple[int, dict[str, Any]]] = []

    def ask(worker: int) -> None:
        number = worker
        with httpx.Client(base_url=http.base_url, timeout=60) as client:
            while not stopping.is_set():
                response = client.post("/v1/predict", json=request(number))
                assert response.status_code == 200, response.text
                answers.append((number, response.json()))
                number += 1

    with ThreadPoolExecutor(8) as pool:
        workers = [pool.submit(ask, worker) for worker in range(8)]
        for version in ("2", "1", "2"):
            time.sleep(0.3)
            publish(engine, published.event(version))
            wait_for(http, version)
        time.sleep(0.3)
        stopping.set()
        for worker in workers:
            worker.result()
    for number, answer in answers:
        published.check(number, answer)
    assert {answer["model_version"] for _, answer in answers} == {"1", "2"}
    assert http.post("/v1/predict", json=request(0)).json()["model_version"] == "2"


def test_a_version_that_cannot_be_loaded_leaves_the_one_that_serves(
    http: httpx.Client, engine: Engine, published: Published
) -> None:
    publish(engine, published.event("broken"))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        plan = {row["model_version"]: row for row in http.get("/v1/plan").json()["versions"]}
        if "broken" in plan and plan["broken"]["error"]:
            break
        time.sleep(0.05)
    assert "there is no folder" in plan["broken"]["error"]
    assert (plan["broken"]["loaded"], plan["1"]["loaded"]) == (False, True)
    answer = http.post("/v1/predict", json=request(2)).json()
    assert answer["model_version"] == "1"
    published.check(2, answer)


def test_the_newest_former_champion_stands_in_for_one_that_cannot_be_loaded_after_a_restart(
    engine: Engine, settings: Settings, published: Published,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    late, times = published.root / "newest", iter(range(1, 9))

    def step(version: str, event: str = "promoted", **fields: Any) -> None:
        when = f"2024-05-0{next(times)}T00:00:00Z"
        publish(engine, published.event(version, event, event_time=when, **fields))

    step("1")
    step("2")
    step("older")
    step("bad", artifact_uri=str(published.root / "1"))
    step("newest")
    step("bad", "rolled_back")
    step("canary", "canary", traffic=0.5)
    with (
        running_gateway(engine, settings) as url,
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        wait_for(http, "2")
        answer = http.post("/v1/predict", json=request(2)).json()
        assert (answer["model_version"], answer["variant"]) == ("2", "champion")
        published.check(2, answer)
        plan = {row["model_version"]: row for row in http.get("/v1/plan").json()["versions"]}
        assert set(plan) == {"2", "older", "newest", "canary"}
        assert {name for name, row in plan.items() if row["loaded"]} == {"2"}
        assert {name for name, row in plan.items() if row["error"]} == {"older", "newest", "canary"}
        assert {name for name, row in plan.items() if row["in_plan"]} == {"newest", "canary"}
        assert plan["2"]["stands_in_for"] == "newest" and plan["2"]["traffic"] == 0.5
        time.sleep(2.5 * settings.poll_s)
        said = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert said.count("version 2 of m answers in place of newest") == 1
        assert len([each for each in said if "newest of m cannot be loaded" in each]) == 1
        shutil.copytree(published.paths["1"], late.with_name("draft")).rename(late)
        wait_for(http, "newest")
        assert http.post("/v1/predict", json=request(0)).json()["model_version"] == "newest"


def test_a_version_that_was_taken_back_does_not_stand_in(
    http: httpx.Client, engine: Engine, published: Published
) -> None:
    for number, (version, event) in enumerate(
        [("gone", "promoted"), ("2", "promoted"), ("2", "rolled_back")], 1
    ):
        when = f"2031-05-0{number}T00:00:00Z"
        engine.rows(
            "insert into events.model_events (event_id, event_time, model, model_version, event, "
            "artifact_uri) values (%s, %s, 'm', %s, %s, %s) returning 1",
            [f"e{number}", when, version, event, str(published.root / version)],
        )
        if version == "2" and event == "promoted":
            wait_for(http, "2")
    deadline = time.monotonic() + 60
    while http.post("/v1/predict", json=request(0)).json()["model_version"] != "1":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("fault", ["elsewhere", "pipe", "link"])
def test_what_is_no_version_of_ours_is_not_loaded(
    http: httpx.Client, engine: Engine, published: Published, tmp_path: Path, fault: str
) -> None:
    """However the event came in: here straight into the log, as from Kafka."""
    folder = tmp_path / "bad" if fault == "elsewhere" else published.root / "bad"
    shutil.copytree(published.paths["2"], folder)
    if fault != "elsewhere":
        (folder / "head.safetensors").unlink()
    if fault == "pipe":
        os.mkfifo(folder / "head.safetensors")
    if fault == "link":
        (folder / "head.safetensors").symlink_to(published.paths["2"] / "head.safetensors")
    publish(engine, published.event("bad", artifact_uri=folder.as_uri()))
    deadline = time.monotonic() + 60
    plan: dict[str, Any] = {}
    while time.monotonic() < deadline and not plan.get("bad", {}).get("error"):
        plan = {row["model_version"]: row for row in http.get("/v1/plan").json()["versions"]}
        time.sleep(0.05)
    wanted = str(published.root) if fault == "elsewhere" else "must be a file"
    assert wanted in plan["bad"]["error"] and not plan["bad"]["loaded"]
    assert http.post("/v1/predict", json=request(0)).json()["model_version"] == "1"


def test_a_version_that_appears_on_disk_later_is_loaded_then(
    http: httpx.Client, engine: Engine, published: Published
) -> None:
    late = published.root / "late"
    publish(engine, published.event("2", artifact_uri=late.as_uri()))
    time.sleep(0.2)
    assert http.post("/v1/predict", json=request(0)).json()["model_version"] == "1"
    late.symlink_to(published.root / "2")
    wait_for(http, "2")
    published.check(0, http.post("/v1/predict", json=request(0)).json())


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
    wanted = sum(place_of(f"r-{number}") < 0.3 for number in range(300))
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
    from headrace.model.artifact import load_adapter
    from headrace.model.network import predict
    from headrace.trainer.finetune import FinetuneConfig, TrainingExample, finetune

    place = settings.artifacts_path.resolve() / "1"
    rate = "segment_features__positive_rate_30d"
    train = [
        TrainingExample(Example("", "s", {rate: number % 10 / 10}), "ny"[number % 10 > 4])
        for number in range(40)
    ]
    finetune(train, config=FinetuneConfig(tabular_steps=20)).save(place, "1")
    with EventLog(engine) as log:
        for number in range(8):
            event = {"model": "m", "request_id": f"old-{number}", "segment": "s", "score": 0.5}
            log.append("inference", [parse("inference", {**event, "prediction": "y"})])
            label = {"request_id": f"old-{number}", "label": "ny"[number > 1]}
            log.append("feedback", [parse("feedback", label)])
        event = {"model": "m", "model_version": "1", "event": "promoted"}
        artifact = {"artifact_uri": str(place)}
        log.append("model_events", [parse("model_events", {**event, **artifact})])
    served = FeatureReader(engine).online([{"model": "m", "segment": "s"}])[0][rate]
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
        expected = predict(adapter, None, [Example("", segment, {rate: value})])[0]
        assert list(answer["scores"].values()) == pytest.approx(list(expected), abs=1e-5)
        query = "select features from events.inference where request_id = %s"
        features = engine.rows(query, [answer["request_id"]])[0]["features"]
        assert features[rate] == value


def test_places_are_spread_evenly() -> None:
    counts = np.histogram([place_of(f"id-{number}") for number in range(20_000)], 10, (0, 1))[0]
    assert counts.sum() == 20_000
    assert counts.min() > 1_800 and counts.max() < 2_200


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

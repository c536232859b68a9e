"""Versions are loaded, swapped and replaced while requests come in."""

from __future__ import annotations

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from headrace.engine import Engine
from headrace.settings import Settings
from tests.gateway.published import Published, publish, request, wait_for
from tests.support.gateways import running_gateway
from tests.support.waiting import until


@pytest.fixture
def http(serving: httpx.Client) -> httpx.Client:
    return serving


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
        until(lambda: alerts(engine) == [("canary", "warning"), ("newest", "critical")])
        time.sleep(2.5 * settings.poll_s)
        said = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert said.count("version 2 of m serves in place of newest") == 1
        assert len([each for each in said if "newest of m cannot be loaded" in each]) == 1
        shutil.copytree(published.paths["1"], late.with_name("draft")).rename(late)
        wait_for(http, "newest")
        assert http.post("/v1/predict", json=request(0)).json()["model_version"] == "newest"
        until(lambda: alerts(engine) == [("canary", "warning")])


def alerts(engine: Engine) -> list[tuple[str, str]]:
    rows = engine.rows(
        "select subject, severity from headrace.alerts where alert = 'not_loaded' order by 1"
    )
    return [(row["subject"], row["severity"]) for row in rows]


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


@pytest.mark.parametrize("fault", ["elsewhere", "pipe", "link", "nan"])
def test_what_is_no_version_of_ours_is_not_loaded(
    http: httpx.Client, engine: Engine, published: Published, tmp_path: Path, fault: str
) -> None:
    """However the event came in: here straight into the log, as from Kafka."""
    folder = tmp_path / "bad" if fault == "elsewhere" else published.root / "bad"
    shutil.copytree(published.paths["2"], folder)
    file = min(folder.glob("*.safetensors"))
    if fault in ("pipe", "link"):
        file.unlink()
    if fault == "pipe":
        os.mkfifo(file)
    if fault == "link":
        file.symlink_to(published.paths["2"] / file.name)
    if fault == "nan":
        for file in folder.glob("*.safetensors"):
            weights = {
                name: np.full_like(each, np.nan) if each.dtype.kind == "f" else each
                for name, each in load_file(file).items()
            }
            save_file(weights, file)
    publish(engine, published.event("bad", artifact_uri=folder.as_uri()))
    deadline = time.monotonic() + 60
    plan: dict[str, Any] = {}
    while time.monotonic() < deadline and not plan.get("bad", {}).get("error"):
        plan = {row["model_version"]: row for row in http.get("/v1/plan").json()["versions"]}
        time.sleep(0.05)
    said = {"elsewhere": str(published.root), "nan": "got nan"}
    wanted = said.get(fault, "must be a file")
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

"""A version whose answers come from the user's own code is served like any other."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import httpx
import msgspec
import pytest

from headrace.engine import Engine
from headrace.model.artifact import VERSION, Manifest
from headrace.settings import Settings
from headrace.trainer.recipes import python
from tests.gateway.published import publish, wait_for
from tests.support.gateways import running_gateway
from tests.support.waiting import until
from tests.trainer.recipes.own_code import dataset, no_progress

MODULE = """
import os
import numpy as np
def fit(data, folder, progress): ...
def load(folder): return folder.parent.name
def predict(model, data):
    if (data["plan"] == "crash").any():
        os._exit(5)
    if (data["plan"] == "nan").any():
        return np.full((len(data), 2), np.nan)
    if model == "v2" and (data["plan"] == "new").any():
        raise ValueError("v2 cannot\\nsay")
    return np.tile([0.25, 0.75], (len(data), 1))
"""
ASKED = {"model": "m", "features": {"plan": "pro"}}


@pytest.fixture
def event(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The promotion of a version of `python`, made by a module in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "steady.py").write_text(MODULE)
    folder = settings.artifacts_path.resolve() / "m" / "v1"
    folder.mkdir(parents=True)
    sys.path.append(str(tmp_path))
    python.fit(dataset(), None, python.Config(function="steady:fit"), no_progress, folder)
    sys.path.remove(str(tmp_path))
    manifest = Manifest(
        recipe="python", task="classification", labels=("no", "yes"), positive_label="yes"
    )
    (folder / VERSION).write_bytes(msgspec.json.encode(manifest))
    return {"model": "m", "model_version": "v1", "event": "promoted", "artifact_uri": str(folder)}


def declare(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text(
        '[models.m]\nrecipe = "python"\nconfig = {function = "steady:fit"}\n'
    )


def test_it_is_served_and_outlives_its_crashes(
    engine: Engine, settings: Settings, tmp_path: Path, event: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("headrace.trainer.recipes._own.PAUSE_S", 0)
    declare(tmp_path)
    publish(engine, event)
    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "v1")
        for plan, said in (("crash", "ended with code 5"), ("nan", "must be a finite number")):
            refused = http.post("/v1/predict", json={**ASKED, "features": {"plan": plan}})
            assert not refused.is_success
            assert said in refused.text
            answer = http.post("/v1/predict", json=ASKED).json()
            assert (answer["prediction"], answer["score"]) == ("yes", 0.75)


def test_failures_of_shadow_and_canary_are_logged_and_the_users_of_a_shadow_see_none(
    engine: Engine, settings: Settings, tmp_path: Path, event: dict[str, str]
) -> None:
    declare(tmp_path)
    folder = Path(event["artifact_uri"])
    shutil.copytree(folder, folder.with_name("v2"))
    second = {**event, "model_version": "v2", "artifact_uri": str(folder.with_name("v2"))}
    asked = {"model": "m", "features": {"plan": "new"}, "request_id": "r", "user_id": "u"}
    publish(engine, event)
    publish(engine, {**second, "event": "shadow"})

    def failures() -> list[tuple[str, str | None, str, bool]]:
        rows = engine.rows(
            "select variant, shadow_of, user_id, error like '%v2 cannot say%' as is_told "
            "from events.inference where error is not null and model_version = 'v2' order by 1"
        )
        return [(row["variant"], row["shadow_of"], row["user_id"], row["is_told"]) for row in rows]

    of_shadow, of_canary = ("shadow", "r", "u", True), ("canary", None, "u", True)
    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "v2")
        answer = http.post("/v1/predict", json=asked)
        assert answer.is_success and answer.json()["model_version"] == "v1"
        until(lambda: failures() == [of_shadow])
        assert (
            'headrace_shadow_predictions_total{outcome="failed"} 1.0' in http.get("/metrics").text
        )
        publish(engine, {**second, "event": "canary", "traffic": 1.0})
        until(lambda: http.post("/v1/predict", json=asked).status_code == 500)
        assert http.post("/v1/predict", json=asked).status_code == 500
        until(lambda: failures() == [of_canary, of_shadow])


def test_it_is_not_loaded_for_a_model_that_nobody_declared_so(
    engine: Engine, settings: Settings, event: dict[str, str]
) -> None:
    publish(engine, event)
    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        deadline = time.monotonic() + 60
        while not (rows := http.get("/v1/plan").json()["versions"]) or not rows[0]["error"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # It has no predictions, and so no clock.
        found = "select subject, severity from headrace.alerts where alert = 'not_loaded'"
        until(lambda: engine.rows(found) == [{"subject": "v1", "severity": "critical"}])
    assert "or what headrace.toml declares for 'm', got 'python'" in rows[0]["error"]

"""Features of the store: looked up by what a request names, from the service of the version."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pandas as pd
import psycopg
import pytest

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.features import reader as module
from headrace.features.online_store import LiveViewOnlineStore
from headrace.features.reader import FeatureReader
from headrace.model.artifact import VERSION, Manifest
from headrace.model.config import FinetuneConfig
from headrace.model.finetune import finetune
from headrace.model.inputs import Example
from headrace.model.recipe import TrainingExample
from headrace.settings import Settings, project_path
from tests.gateway.published import publish, wait_for
from tests.support.gateways import running_gateway
from tests.support.policies import set_policies

ENTITY = {"segment": "s", "user_id": "u", "session_id": "n", "item_id": "i"}
OF_USER = "user_features__labels_30d"
OF_SEGMENT = "segment_features__labels_30d"


def version(folder: Path, names: tuple[str, ...], **said: Any) -> Path:
    """A version that knows a number and one feature of the store, and says what it looks up."""
    train = [
        TrainingExample(
            Example("", "s", {"own": float(number), **dict.fromkeys(names[:1], number % 7)}),
            "ny"[number % 2],
        )
        for number in range(40)
    ]
    finetune(train, config=FinetuneConfig(tabular_steps=2)).save(folder)
    manifest = Manifest(
        recipe="tabular", task="classification", labels=("n", "y"), looked_up=names, **said
    )
    (folder / VERSION).write_bytes(msgspec.json.encode(manifest))
    return folder


def serve(
    engine: Engine, model: str, names: tuple[str, ...], model_version: str = "1", **said: Any
) -> None:
    place = engine.settings.artifacts_path.resolve() / f"{model}-{model_version}"
    variant = {key: said.pop(key) for key in ("event", "traffic") if key in said}
    publish(engine, {
        "model": model, "model_version": model_version, "event": "promoted", **variant,
        "artifact_uri": str(version(place, names, **said)),
    })  # fmt: skip


def told(engine: Engine, model: str, count: int) -> None:
    """Labelled predictions of the entity."""
    set_policies(engine, model, positive_label="y")
    with EventLog(engine) as log:
        for number in range(count):
            event = {"model": model, "request_id": f"{model}-old-{number}", **ENTITY}
            log.append("inference", [parse("inference", {**event, "prediction": "y"})])
            said = {"request_id": event["request_id"], "label": "ny"[number % 2]}
            log.append("feedback", [parse("feedback", said)])


def logged(engine: Engine, *ids: str) -> dict[str, Mapping[str, Any]]:
    """What was logged of requests, which are stored behind their answers."""
    query = "select * from events.inference where request_id = any(%s)"
    deadline = time.monotonic() + 60
    while len(rows := engine.rows(query, [list(ids)])) < len(ids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return {row["request_id"]: row for row in rows}


def ask(http: httpx.Client, model: str, request_id: str, **sent: Any) -> Any:
    response = http.post("/v1/predict", json={"model": model, "request_id": request_id, **sent})
    assert response.status_code == 200, response.text
    return response.json()


def names_of(engine: Engine, service: str) -> tuple[str, ...]:
    with FeatureReader(engine, service) as reader:
        return tuple(reader.names)


def test_two_versions_are_served_with_two_services_side_by_side(
    engine: Engine, settings: Settings
) -> None:
    """Each with all that its service says of what the request names, and nothing else."""
    entities, segments = names_of(engine, "entities_v1"), names_of(engine, "training_v1")
    told(engine, "m", 5)
    serve(engine, "m", segments)
    serve(engine, "m", entities, "2", event="canary", traffic=0.5, feature_service="entities_v1")
    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "1")
        wait_for(http, "2")
        with FeatureReader(engine, "entities_v1") as reader:
            (known,) = reader.online([{"model": "m", **ENTITY}])
        users = {f"u{number}": ask(http, "m", f"r{number}", **{**ENTITY, "user_id": f"u{number}"})
                 for number in range(12)}  # fmt: skip
        ask(http, "m", "known", **ENTITY, features={"own": 1, OF_SEGMENT: 9})
    assert known[OF_USER] == known["item_features__labels_30d"] == known[OF_SEGMENT] == 5
    assert {one["model_version"] for one in users.values()} == {"1", "2"}
    rows = logged(engine, "known", *(one["request_id"] for one in users.values()))
    for request_id, row in rows.items():
        own = {"own": 1, OF_SEGMENT: 9} if request_id == "known" else {}
        wanted = {
            name: known[name] for name in {"1": segments, "2": entities}[row["model_version"]]
        }
        if request_id != "known":
            wanted |= {name: None for name in wanted if name.startswith("user_")}
        # What was asked since then counts for session and item, too.
        counts = {name for name in wanted if name.endswith("predictions_30d")}
        found = {name: value for name, value in row["features"].items() if name not in counts}
        assert found == {
            name: value for name, value in ({**wanted, **own}).items() if name not in counts
        }
        assert counts <= row["features"].keys()


def test_candidates_are_looked_up_together_and_answered_by_one_version(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(engine, "m", 3)
    serve(engine, "m", names_of(engine, "entities_v1"), feature_service="entities_v1")
    queries: list[object] = []
    run = LiveViewOnlineStore._run

    def counted(self: Any, dialect: Any, connection: Any, sent: Any) -> Any:
        queries.extend(sent)
        return run(self, dialect, connection, sent)

    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http, "1")
        monkeypatch.setattr(LiveViewOnlineStore, "_run", counted)
        sent: dict[str, Any] = {
            "model": "m", **{key: ENTITY[key] for key in ("segment", "user_id", "session_id")},
            "request_id": "r", "candidates": [{"item_id": f"i{n}"} for n in range(199)],
        }  # fmt: skip
        sent["candidates"].append({"item_id": "i"})
        response = http.post("/v1/rank", json=sent)
        assert response.status_code == 200, response.text
    assert len(queries) == 4
    query = "select item_id, features from events.inference where request_id = 'r'"
    rows = {row["item_id"]: row["features"] for row in engine.rows(query)}
    assert len(rows) == 200
    labels = "item_features__labels_30d"
    assert (rows["i"][labels], rows["i7"][labels]) == (3, None)
    assert {features[OF_USER] for features in rows.values()} == {3}


def test_a_service_or_a_feature_that_is_gone_makes_the_version_unloadable(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a version that comes with changed definitions is served with those."""
    shipped = (project_path("feature_repo") / "definitions.py").read_text()
    (tmp_path / "definitions.py").write_text(shipped)
    monkeypatch.setattr(module, "project_path", lambda _: tmp_path)
    serve(engine, "gone", (OF_USER,), feature_service="users_v1")
    serve(engine, "lacking", (OF_USER,))
    serve(engine, "fine", (OF_SEGMENT,))

    def report(http: httpx.Client) -> dict[str, Any]:
        return {row["model"]: row for row in http.get("/v1/plan").json()["versions"]}

    def until(http: httpx.Client, model: str, loaded: bool) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while True:
            row: dict[str, Any] = report(http).get(model, {})
            if row.get("loaded") is loaded and (loaded or row["error"]):
                return row
            assert time.monotonic() < deadline, row
            time.sleep(0.05)

    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        until(http, "fine", True)
        assert until(http, "gone", False)["error"] == (
            "ModelError: the version was trained with the feature_service users_v1; service: "
            "must be one of entities_v1, training_v1, got 'users_v1'"
        )
        assert until(http, "lacking", False)["error"].startswith(
            f"ModelError: feature_service: training_v1 must have {OF_USER}, with which the "
            "version was trained; it has segment_features__labels_30d, "
        )
        assert http.post("/v1/predict", json={"model": "gone"}).status_code == 503
        added = 'users_v1 = FeatureService(name="users_v1", features=[user_features])\n'
        (tmp_path / "definitions.py").write_text(shipped + added)
        until(http, "gone", True)
        ask(http, "gone", "r", user_id="u")
        ask(http, "fine", "s", segment="s")
    rows = logged(engine, "r", "s")
    assert rows["r"]["features"] == {OF_USER: None}
    assert rows["s"]["features"] == {OF_SEGMENT: None}


def newest(engine: Engine, model: str) -> dict[str, datetime]:
    """Of each view the time of the row of the entity."""
    found = {}
    for view, key in (
        ("segment_features", "segment"), ("user_features", "user_id"),
        ("session_features", "session_id"), ("item_features", "item_id"),
    ):  # fmt: skip
        query = f"select event_timestamp from headrace.{view} where model = %s and {key} = %s"
        for row in engine.rows(query, [model, ENTITY[key]]):
            found[view] = row["event_timestamp"]
    return found


def test_what_the_model_saw_is_logged_with_its_age_and_is_the_view_as_of_that_moment(
    engine: Engine, settings: Settings
) -> None:
    set_policies(engine, positive_label="y")
    names = names_of(engine, "entities_v1")
    serve(engine, "m", names, feature_service="entities_v1")
    publish(engine, {
        "model": "m", "model_version": "2", "event": "shadow",
        "artifact_uri": str(version(engine.settings.artifacts_path.resolve() / "2", names,
                                    feature_service="entities_v1")),
    })  # fmt: skip
    began = datetime(2024, 5, 1, 9, 0, 30, 123456, tzinfo=UTC)
    times = [began + timedelta(minutes=7 * number) for number in range(6)]
    served: list[tuple[str, datetime, dict[str, datetime]]] = []
    with (
        running_gateway(engine, settings) as url,
        httpx.Client(base_url=url, timeout=60) as http,
        EventLog(engine) as log,
    ):
        wait_for(http, "1")
        wait_for(http, "2")
        for number, at in enumerate(times):
            event = {"model": "m", "request_id": f"old-{number}", **ENTITY}
            event["event_time"] = (at - timedelta(seconds=20)).isoformat()
            log.append("inference", [parse("inference", {**event, "prediction": "y"})])
            said = {"request_id": event["request_id"], "label": "ny"[number % 2]}
            said["event_time"] = (at - timedelta(seconds=10)).isoformat()
            log.append("feedback", [parse("feedback", said)])
            known = newest(engine, "m")
            ask(http, "m", f"r{number}", **ENTITY, event_time=at.isoformat())
            logged(engine, f"r{number}")
            served.append((f"r{number}", at, known))
        ask(http, "m", "nobody", user_id="nobody", segment="s", event_time=times[-1].isoformat())
    rows = logged(engine, "nobody", *(request_id for request_id, _, _ in served))
    ages = rows["nobody"]["feature_ages"]
    assert {view for view, age in ages.items() if age is None} == {
        "user_features", "session_features", "item_features",
    }  # fmt: skip
    with FeatureReader(engine, "entities_v1") as reader:
        for request_id, at, known in served:
            row = rows[request_id]
            assert row["feature_ages"] == {
                view: (at - time).total_seconds() for view, time in known.items()
            }
            assert row["feature_ages"]["user_features"] == 9.999999
            assert -60 <= row["feature_ages"]["segment_features"] < 0
            for view in reader.views:
                as_of = at - timedelta(seconds=row["feature_ages"][view.name])
                frame = pd.DataFrame([{"model": "m", **ENTITY, "event_timestamp": as_of}])
                (then,) = reader.historical(frame)[view.names].to_dict("records")
                if view.name == "item_features":  # its hour went on after this was served
                    if request_id != served[-1][0]:
                        continue
                    then.pop("item_features__predictions_30d")
                assert {name: row["features"][name] for name in then} == then, view.name
    query = "select * from events.inference where variant = 'shadow'"
    shadows = {row["shadow_of"]: row for row in engine.rows(query)}
    assert shadows.keys() <= rows.keys() and shadows
    for request_id, shadow in shadows.items():
        for name in ("features", "feature_ages"):
            assert shadow[name] == rows[request_id][name]
    shown = engine.rows("select request_id, feature_ages from headrace.inferences")
    assert {row["request_id"]: row["feature_ages"] for row in shown}.items() >= {
        request_id: row["feature_ages"] for request_id, row in rows.items()
    }.items()


def test_where_the_store_fails_it_is_counted_and_seen_in_the_data(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was asked of other services beside it is answered with its features."""
    told(engine, "m", 2)
    serve(engine, "m", (OF_USER,), feature_service="entities_v1")
    serve(engine, "n", (OF_SEGMENT,))
    serve(engine, "plain", ())
    read = LiveViewOnlineStore.newest

    def failing(self: Any, config: Any, reads: Any) -> Any:
        if any("user_features" in view.identity for view, _ in reads):
            raise psycopg.OperationalError("the view is away")
        return read(self, config, reads)

    with running_gateway(engine, settings) as url, httpx.Client(base_url=url, timeout=60) as http:
        until_loaded(http, "m", "n", "plain")
        ask(http, "m", "before", **ENTITY)
        ask(http, "m", "given", **ENTITY, features={OF_USER: 4})
        with monkeypatch.context() as patch:
            patch.setattr(LiveViewOnlineStore, "newest", failing)
            batch = [{"model": model, "request_id": f"without-{model}", **ENTITY}
                     for model in ("m", "n", "plain")]  # fmt: skip
            assert http.post("/v1/predict", json=batch).status_code == 200
        ask(http, "m", "after", **ENTITY)
        metrics = http.get("/metrics").text
    rows = logged(engine, "before", "given", "after", "without-m", "without-n", "without-plain")
    found = {name: (row["features"], row["feature_ages"]) for name, row in rows.items()}
    assert found["before"][0] == found["after"][0] == {OF_USER: 2}
    assert found["given"] == ({OF_USER: 4}, None)
    assert found["without-m"] == ({}, {})
    assert (found["without-n"][0], [*found["without-n"][1]]) == (
        {OF_SEGMENT: None}, ["segment_features"]
    )  # fmt: skip
    assert found["without-plain"] == ({}, None)
    assert 'headrace_feature_lookups_total{outcome="failed"} 1.0' in metrics
    assert 'headrace_feature_lookups_total{outcome="read"} 3.0' in metrics


def until_loaded(http: httpx.Client, *models: str) -> None:
    deadline = time.monotonic() + 60
    while {row["model"] for row in http.get("/v1/plan").json()["versions"] if row["loaded"]} < {
        *models
    }:
        assert time.monotonic() < deadline
        time.sleep(0.05)

"""The whole loop through the dialect of RisingWave, on the dialect stand-in."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pandas as pd
from starlette.testclient import TestClient

from headrace.control import policies
from headrace.control.handover import hand_over
from headrace.control.lifecycle import promote, rollback
from headrace.control.owner import owner_key
from headrace.control.plan import PlanFollower, Served
from headrace.dashboards.page import render
from headrace.engine import Engine
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.gateway.app import create_app
from headrace.operate.status import status_of
from headrace.trainer.recorded import rebuild_dataset
from headrace.trainer.watch import Trainer
from tests.support.churn import MODEL, customers, send
from tests.support.segment_labels import START, Labels
from tests.support.waiting import until


def test_a_version_is_trained_published_followed_and_taken_back(
    fed: Engine, tmp_path: Path
) -> None:
    hand_over(fed, MODEL, learns=True)
    # Features count positives: what a version says of itself would change those of the rebuilt set.
    policies.write(fed, MODEL, {"positive_label": "leaves"})
    send(fed, customers(400, seed=1))
    query = "select due from headrace.retrain_trigger where due"
    until(lambda: fed.rows(query))
    plans: list[tuple[Served, ...]] = []
    with Trainer(fed) as trainer, PlanFollower(fed, plans.append, 0.05):
        assert trainer.run_once()
        assert not trainer.run_once()
        (told,) = fed.rows("select trigger_id, reason, examples from control.due_triggers")
        assert told == {"trigger_id": f"{MODEL}/1", "reason": told["reason"], "examples": 400}
        assert "400 new labels" in told["reason"]
        until(lambda: any(row.model_version == "v1" for plan in plans for row in plan))
        with FeatureReader(fed) as reader:
            (made,) = fed.rows("select dataset_id from control.datasets")
            assert len(rebuild_dataset(fed, made["dataset_id"], reader).rows) == 400
    assert rollback(fed, MODEL, "test") == ("v1", None)
    promote(fed, MODEL, "v1", traffic=0.5)
    status = status_of(fed.settings)
    assert status["risingwave"]["running"]
    assert [row["model"] for row in status["models"]] == [MODEL]
    page = render(fed, MODEL, tmp_path / "loop.html").read_text()
    assert "v1" in page


def test_two_trainers_make_one_version(fed: Engine) -> None:
    hand_over(fed, MODEL, learns=True)
    send(fed, customers(300, seed=3))
    until(lambda: fed.rows("select due from headrace.retrain_trigger where due"))
    worked: list[bool] = []
    with Trainer(fed) as one, Trainer(fed) as other:
        threads = [
            threading.Thread(target=lambda each=each: worked.append(each.run_once()))
            for each in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(worked) == [False, True]
    until(lambda: fed.rows("select * from headrace.model_versions"))
    assert len(fed.rows("select * from control.attempts")) == 1


def test_the_gateway_answers_and_sends(fed: Engine) -> None:
    key = {"Authorization": f"Bearer {owner_key(fed.settings).value}"}
    with TestClient(create_app(fed), "http://localhost", headers=key) as http:
        assert http.get("/healthz").json()["status"] == "ok"
        assert http.get("/v1/plan").json() == {"versions": []}
        stored = http.post("/v1/inferences", json={"model": "m", "request_id": "r1"})
        assert stored.status_code == 201
        assert http.post("/v1/feedback", json={"request_id": "r1", "label": "x"}).is_success
        until(lambda: fed.rows("select * from headrace.labeled_examples"))
        changed = http.put("/v1/models/m/policies", json={"psi_alert": 0.5, "cooldown": "2 days"})
        assert changed.json()["own"] == {"psi_alert": "0.5", "cooldown": "2 days"}
        back = http.put("/v1/models/m/policies", json={"psi_alert": None})
        assert back.json()["own"] == {"cooldown": "2 days"}
        wrong = http.put("/v1/models/m/policies", json={"cooldown": "soon"})
        assert wrong.status_code == 422
        assert wrong.json()["error"]["field"] == "cooldown"


def test_features_are_those_of_postgresql(engine: Engine, standin: Engine) -> None:
    with EventLog(engine) as log:
        later = START + timedelta(hours=2)
        Labels(log).send(
            ("m", "eu", START, "yes"), ("m", "eu", later, "no"), ("n", None, START, "yes")
        )
    with FeatureReader(engine) as here, FeatureReader(standin) as there:
        entities: list[dict[str, str | None]] = [
            {"model": "m", "segment": "eu"}, {"model": "n", "segment": ""}, {"model": "x"},
        ]  # fmt: skip
        found = there.online(entities)
        assert found == here.online(entities)
        assert found[0]["segment_features__labels_30d"] == 2
        times = [START, START + timedelta(minutes=1), later + timedelta(minutes=1)]
        asked = pd.DataFrame({"model": "m", "segment": "eu", "event_timestamp": times})
        history = there.historical(asked)
        pd.testing.assert_frame_equal(history, here.historical(asked))
        assert history["segment_features__labels_30d"].tolist() == [None, 1, 2]

"""The loop on a stream that is nothing like the demo's: numbers and words, no text."""

from __future__ import annotations

import json
import random
import threading
from datetime import UTC, datetime

import psycopg
import pytest
from msgspec import structs

from headrace.control.claims import Claim
from headrace.control.handover import hand_over
from headrace.control.lifecycle import promote, rollback
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.model.artifact import artifact_path
from headrace.model.inputs import Example
from headrace.model.weights import load_adapter
from headrace.trainer.brief import read_brief
from headrace.trainer.recorded import rebuild_dataset
from headrace.trainer.watch import MAX_ATTEMPTS, Trainer
from tests.support.churn import MODEL, customers, send
from tests.support.standin import grow_old


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """An engine that the model was handed over on."""
    hand_over(engine, MODEL, learns=True)
    return engine


@pytest.fixture
def trained(engine: Engine) -> Engine:
    send(engine, customers(400, seed=1))
    with engine.connect() as connection:
        connection.execute(
            "insert into control.policies values (%s, 'positive_label', 'leaves')", [MODEL]
        )
    with Trainer(engine) as trainer:
        assert trainer.run_once()
        assert not trainer.run_once()
    return engine


def test_new_labels_make_a_version_that_predicts(trained: Engine) -> None:
    plan = trained.rows("select * from headrace.serving_plan")
    assert [(row["model"], row["model_version"], row["traffic"]) for row in plan] == [
        (MODEL, "v1", 1.0)
    ]
    folder = artifact_path(plan[0]["artifact_uri"], trained.settings.artifacts_path)
    adapter = load_adapter(folder)
    staying = Example("", "eu", {"bill": 10, "calls": 0, "plan": "a", "vip": False})
    leaving = Example("", "eu", {"bill": 190, "calls": 9, "plan": "a", "vip": False})
    answers = adapter.predict([staying, leaving])[:, adapter.labels.index("leaves")]
    assert answers[0] < 0.2 < 0.8 < answers[1]
    card = (folder / "README.md").read_text()
    assert json.loads((folder.parent / "model.json").read_text()) == {"model": MODEL}
    assert MODEL in card and "rules-1, as it was logged" in card


def test_loop_is_told_stage_by_stage(trained: Engine) -> None:
    with EventLog(trained) as log:
        asked = {"model": MODEL, "model_version": "v1", "event_time": "2025-01-02T00:00:00Z"}
        log.append("inference", [parse("inference", asked)])
    rows = trained.rows("select stage, seconds from headrace.feedback_loop_latency order by place")
    assert [row["stage"] for row in rows] == [
        "collect", "join", "trigger", "compile", "train", "gate", "publish", "serve", "total",
    ]  # fmt: skip
    assert all(row["seconds"] >= 0 for row in rows)


def test_the_progress_of_a_run_is_kept(trained: Engine) -> None:
    """Its last row is that of its last stage, not of the one that the trainer begins with."""
    rows = trained.rows("select status, stage, model_version from headrace.training_runs")
    assert rows == [{"status": "trained", "stage": "gate", "model_version": "v1"}]


def test_training_set_is_rebuilt_from_its_id(trained: Engine) -> None:
    send(trained, customers(50, seed=2, day=1))
    dataset_id = trained.rows("select dataset_id from control.datasets")[0]["dataset_id"]
    with FeatureReader(trained) as reader:
        dataset = rebuild_dataset(trained, dataset_id, reader)
    assert len(dataset.rows) == 400
    parts = dataset.split()
    ids = [row.request_id for part in parts for row in part]
    assert sorted(ids) == sorted(row.request_id for row in dataset.rows)
    assert max(row.event_time for row in parts[0]) <= min(row.event_time for row in parts[1])


def test_two_trainers_make_one_version(engine: Engine) -> None:
    send(engine, customers(300, seed=3))
    trainers = [Trainer(engine), Trainer(engine)]
    worked: list[bool] = []
    threads = [
        threading.Thread(target=lambda one=one: worked.append(one.run_once())) for one in trainers
    ]
    for trainer in trainers:
        trainer.__enter__()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for trainer in trainers:
        trainer.close()
    assert sorted(worked) == [False, True]
    assert len(engine.rows("select * from headrace.model_versions")) == 1


def test_noise_is_rejected_with_a_reason(engine: Engine) -> None:
    rng = random.Random(0)
    pairs = [
        (answer, structs.replace(said, label=rng.choice(["leaves", "stays"])))
        for answer, said in customers(300, seed=4)
    ]
    send(engine, iter(pairs))
    with Trainer(engine) as trainer:
        assert trainer.run_once()
    rows = engine.rows("select status, reason, artifact_uri from headrace.model_versions")
    assert rows[0]["status"] == "rejected"
    assert "against rules-1, as it was logged" in rows[0]["reason"]
    assert rows[0]["artifact_uri"] is None
    assert engine.rows("select * from headrace.serving_plan") == []


def test_an_error_that_may_pass_is_tried_again_and_then_given_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(engine, customers(300, seed=6))

    def fail(*_: object) -> None:
        raise psycopg.InternalError("the cluster is recovering")

    monkeypatch.setattr("headrace.trainer.watch.train", fail)
    with Trainer(engine) as trainer:
        for _ in range(MAX_ATTEMPTS - 1):
            with pytest.raises(psycopg.InternalError):
                trainer.run_once()
            assert not trainer.run_once()
            grow_old(engine)
        assert trainer.run_once()
    rows = engine.rows("select status, reason from headrace.model_versions")
    assert rows == [{"status": "rejected", "reason": "InternalError: the cluster is recovering"}]


def test_a_candidate_must_beat_the_champion_and_not_the_prior(trained: Engine) -> None:
    send(trained, customers(400, seed=5, day=3))
    with trained.connect() as connection:
        connection.execute(
            "insert into control.policies values (%s, 'min_improvement', '0.4')", [MODEL]
        )
    with Trainer(trained) as trainer:
        assert trainer.run_once()
    (row,) = trained.rows(
        "select status, reason, metrics -> 'gate' as gate from headrace.model_versions "
        "where model_version = 'v2'"
    )
    assert row["status"] == "rejected"
    assert "v1" in row["reason"] and "the prior" not in row["reason"]
    ours, theirs = (row["gate"][side]["holdout"]["log_loss"] for side in ("candidate", "champion"))
    assert ours < 0.4 and theirs < 0.4  # the prior's is about log(2)


def check_what_the_next_run_knows(engine: Engine) -> None:
    """What the champion was trained on, and how much versions differ, are read from its metrics."""
    told = engine.rows("select metrics from headrace.champions")[0]["metrics"]
    assert told["gate"]["against"] == "v1"
    assert told["gate"]["left_out"] == {"seen": 0, "unknown": 0, "unknown_labels": {}}
    now = datetime.now(UTC)
    with FeatureReader(engine) as reader:
        brief = read_brief(engine, Claim("next", MODEL, "w", "next", 1, now, now, now), reader)
    assert brief.spread == told["gate"]["spread"] > 0
    assert brief.champion is not None and brief.champion.train_to is not None
    assert brief.champion.train_to.timestamp() == told["train_to"]


def test_promote_and_rollback_by_hand(trained: Engine) -> None:
    send(trained, customers(400, seed=5, day=3))
    with trained.connect() as connection:
        connection.execute(
            "insert into control.policies values (%s, 'min_improvement', '-10')", [MODEL]
        )
    with Trainer(trained) as trainer:
        assert trainer.run_once()

    def champion() -> str:
        rows = trained.rows("select model_version from headrace.serving_plan")
        return str(rows[0]["model_version"])

    assert champion() == "v2"
    check_what_the_next_run_knows(trained)
    assert rollback(trained, MODEL, "test") == ("v2", "v1")
    assert champion() == "v1"
    promote(trained, MODEL, "v2", traffic=0.25)
    shares = trained.rows(
        "select model_version, variant, traffic from headrace.serving_plan order by 1"
    )
    assert [tuple(row.values()) for row in shares] == [
        ("v1", "champion", 0.75), ("v2", "canary", 0.25),
    ]  # fmt: skip
    promote(trained, MODEL, "v2")
    assert champion() == "v2"

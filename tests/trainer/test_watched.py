"""A model is watched only until it is handed over, and what answers stays watched after that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from headrace.control import policies
from headrace.control.claims import Trigger, claim
from headrace.control.handover import hand_over
from headrace.engine import Engine
from headrace.trainer import run, watch
from headrace.trainer.watch import Trainer
from tests.support.churn import MODEL, customers, send


def trigger(engine: Engine) -> dict[str, Any]:
    (row,) = engine.rows("select * from headrace.retrain_trigger where model = %s", [MODEL])
    return row


def test_nothing_is_trained_that_was_not_handed_over(engine: Engine) -> None:
    send(engine, customers(400, seed=1))
    row = trigger(engine)
    assert (row["due"], row["reason"]) == (False, "400 new labels")
    assert row["held_back_by"] == "watched only: headrace train 'churn/éàü'"
    with Trainer(engine) as trainer:
        assert not trainer.run_once()
        assert engine.rows("select * from events.model_events") == []
        (said,) = hand_over(engine, MODEL, learns=True)["triggers"]
        assert said["due"]
        assert trainer.run_once()
    assert [row["status"] for row in engine.rows("select status from headrace.model_versions")] == [
        "champion"
    ]


def test_all_models_can_be_handed_over_and_one_taken_back(engine: Engine) -> None:
    send(engine, customers(300, seed=1))
    policies.write(engine, "*", {"learn": "on"})
    assert trigger(engine)["due"]
    hand_over(engine, MODEL, learns=False)
    assert not trigger(engine)["due"]


def test_a_model_taken_back_meanwhile_is_not_claimed(either: Engine, engine: Engine) -> None:
    send(engine, customers(300, seed=1))
    hand_over(either, MODEL, learns=True)
    row = trigger(engine)
    due = Trigger(MODEL, row["trigger_id"], row["reason"], None)
    hand_over(either, MODEL, learns=False)
    assert claim(either, due, "w") is None
    assert engine.rows("select * from control.claims") == []
    hand_over(either, MODEL, learns=True)
    assert claim(either, due, "w") is not None


def test_a_model_taken_back_during_a_run_is_not_promoted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(engine, customers(400, seed=1))
    hand_over(engine, MODEL, learns=True)
    train: Callable[..., Any] = run.train

    def taken_back_at_the_end(*arguments: Any) -> Any:
        outcome = train(*arguments)
        assert outcome.promoted
        hand_over(engine, MODEL, learns=False)
        return outcome

    monkeypatch.setattr(watch, "train", taken_back_at_the_end)
    with Trainer(engine) as trainer:
        assert trainer.run_once()
        assert not trainer.run_once()
    (version,) = engine.rows("select status, reason, artifact_uri from headrace.model_versions")
    assert (version["status"], version["artifact_uri"]) == ("rejected", None)
    assert version["reason"].startswith("not promoted, the model is watched only by now (")
    assert engine.rows("select * from headrace.serving_plan") == []
    # The run has ended: the next trigger is another one, which waits for news.
    assert trigger(engine)["trigger_id"] == f"{MODEL}/2"


@pytest.mark.parametrize("promoted", [False, True])
def test_the_versions_of_the_application_stay_watched(engine: Engine, promoted: bool) -> None:
    """Their server answers before and after one of ours is promoted that nobody asks."""
    # opinions come three hours after their answers, and move the clock
    policies.write(engine, MODEL, {"rollback_window": "6 hours", "drift_window": "6 hours"})
    send(engine, customers(300, seed=1))
    if promoted:
        hand_over(engine, MODEL, learns=True)
        with Trainer(engine) as trainer:
            assert trainer.run_once()
        assert engine.rows("select model_version from headrace.serving_plan") == [
            {"model_version": "v1"}
        ]
    before = watched(engine)
    assert before["recent_performance"] == [{"model_version": None, "labeled": 300}]
    pairs = [
        (structs.replace(answer, model_version="rules-2", error="timeout"), said)
        for answer, said in customers(300, seed=2, day=1)
    ]
    send(engine, iter(pairs))
    after = watched(engine)
    # a day and five hours behind the last opinion, in whole hours
    assert after["recent_performance"][0]["labeled"] >= 300
    assert after["concept_drift"] == [{"examples": 600}]
    for view in ("serving_errors", "prediction_drift"):
        assert "rules-2" in {row["model_version"] for row in after[view]}, view
    assert {"alert": "errors", "subject": "rules-2"} in after["alerts"]
    assert after["rollback_trigger"] == [
        {"model_version": "rules-2", "held_back_by": "no earlier version to return to"}
    ]
    assert after["metric_forecast"] == before["metric_forecast"] != []
    assert {row["feature"] for row in after["feature_drift"]} == {"bill", "calls", "plan", "vip"}
    assert all(row["current_rows"] for row in after["feature_drift"])


def test_a_champion_is_followed_from_its_first_answer(engine: Engine) -> None:
    send(engine, customers(300, seed=1))
    hand_over(engine, MODEL, learns=True)
    with Trainer(engine) as trainer:
        assert trainer.run_once()
    assert not engine.rows("select is_serving from headrace.champions")[0]["is_serving"]
    pairs = [
        (structs.replace(answer, model_version="v1"), said)
        for answer, said in customers(200, seed=2, day=1)
    ]
    send(engine, iter(pairs))
    (row,) = engine.rows(
        "select model_version, labeled, baseline_auc from headrace.recent_performance"
    )
    assert (row["model_version"], row["labeled"]) == ("v1", 200)
    assert row["baseline_auc"] > 0.5
    (told,) = engine.rows("select metrics -> 'baseline_rows' as n from headrace.champions")
    (drop,) = engine.rows("select baseline_stderr, recent_stderr from headrace.metric_drop")
    scaled = drop["recent_stderr"] * (200 / told["n"]) ** 0.5
    assert drop["baseline_stderr"] == pytest.approx(scaled)


def watched(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    columns = {
        "recent_performance": "model_version, labeled",
        "concept_drift": "examples",
        "serving_errors": "model_version",
        "prediction_drift": "model_version",
        "rollback_trigger": "model_version, held_back_by",
        "metric_forecast": "metric",
        "feature_drift": "feature, current_rows",
        "alerts": "alert, subject",
    }
    found = {}
    for view, names in columns.items():
        kept = "where reason is not null" if view == "rollback_trigger" else ""
        found[view] = engine.rows(f"select {names} from headrace.{view} {kept} order by 1")
    return found

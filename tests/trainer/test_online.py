"""Between its runs a model learns label by label, and takes corrections."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from msgspec import structs

from headrace.control.handover import hand_over
from headrace.control.lifecycle import promote, rollback
from headrace.declared import Declared, Online
from headrace.engine import Engine
from headrace.errors import ModelError
from headrace.events.contract import Feedback, Inference
from headrace.model.artifact import artifact_path
from headrace.model.inputs import Example
from headrace.model.recipe import Predictor, TrainingExample
from headrace.trainer.online import OnlineLearner
from headrace.trainer.recipes import load
from headrace.trainer.steps import correct
from headrace.trainer.watch import Trainer
from tests.support.churn import MODEL, customers, send

LEAVING = Example("", "eu", {"bill": 190.0, "calls": 9, "plan": "a", "vip": False})
STAYING = Example("", "eu", {"bill": 10.0, "calls": 0, "plan": "a", "vip": False})


@pytest.fixture
def trained(engine: Engine) -> Engine:
    hand_over(engine, MODEL, learns=True)
    send(engine, customers(400, seed=1))
    with Trainer(engine) as trainer:
        assert trainer.run_once()
    return engine


def learner(engine: Engine, **settings: float) -> OnlineLearner:
    declared = Declared(online=structs.replace(Online(), **settings))
    return OnlineLearner(engine, MODEL, declared, lambda _: None)


def turned(count: int, seed: int, day: int) -> Iterator[tuple[Inference, Feedback]]:
    """Customers of a new world: who would have left stays, and the other way round."""
    for answer, said in customers(count, seed=seed, day=day):
        assert isinstance(answer, Inference) and isinstance(said, Feedback)
        other = {"leaves": "stays", "stays": "leaves"}[str(said.label)]
        yield answer, structs.replace(said, label=other)


def champion(engine: Engine) -> tuple[str, Predictor]:
    (row,) = engine.rows("select model_version, artifact_uri from headrace.serving_plan")
    folder = artifact_path(row["artifact_uri"], engine.settings.artifacts_path)
    return row["model_version"], load(folder)[1]


def leaves(engine: Engine, example: Example) -> float:
    _, predictor = champion(engine)
    return float(predictor.predict([example])[0, predictor.labels.index("leaves")])


def test_labels_change_the_answers_step_by_step(trained: Engine) -> None:
    online = learner(trained, rate=0.1, replay=10)
    assert not online.step()
    before = leaves(trained, LEAVING)
    for number in range(6):
        send(trained, turned(30, seed=10 + number, day=2 + number))
        assert online.step()
        assert not online.step()
    version, _ = champion(trained)
    assert version == "v1.6"
    assert leaves(trained, LEAVING) < before - 0.3
    (row,) = trained.rows(
        "select metrics from headrace.model_versions where model_version = 'v1.6'"
    )
    assert row["metrics"]["prequential_labels"] == 180
    assert row["metrics"]["prequential_log_loss"] < row["metrics"]["anchor_log_loss"]
    assert row["metrics"]["baseline_auc"] is not None  # of the version that was trained


def test_a_step_is_taken_back_like_any_version(trained: Engine) -> None:
    online = learner(trained, rate=0.05)
    online.step()
    before = leaves(trained, LEAVING)
    for number in range(2):
        send(trained, turned(30, seed=10 + number, day=2 + number))
        assert online.step()
    assert rollback(trained, MODEL, "no") == ("v1.2", "v1.1")
    promote(trained, MODEL, "v1")
    assert leaves(trained, LEAVING) == before
    send(trained, turned(30, seed=20, day=9))
    assert online.step()
    assert champion(trained)[0] == "v1.3"


def test_steps_that_do_worse_are_undone_and_learning_rests(trained: Engine) -> None:
    online = learner(trained, rate=1.0, steps=30, replay=0)
    online.step()
    worlds = (customers, turned)
    for number, world in zip(range(40), itertools.cycle(worlds), strict=False):
        send(trained, world(15, seed=30 + number, day=2 + number))  # type: ignore[operator]
        if not online.step():
            break
    assert champion(trained)[0] == "v1"
    (row,) = trained.rows(
        "select reason from events.model_events where model_version = 'v1' "
        "order by ingested_at desc limit 1"
    )
    assert row["reason"].startswith("the steps from it did worse: log loss")
    send(trained, customers(15, seed=99, day=90))
    assert not online.step()


def test_what_is_replayed_holds_the_answers_back(trained: Engine) -> None:
    """Two learners take the same step, one of them with the labels of before."""
    learners = [learner(trained, rate=0.1, replay=replay) for replay in (0, 400)]
    for one in learners:
        one.step()
    before = leaves(trained, LEAVING)
    send(trained, turned(30, seed=10, day=2))
    after = []
    for one in learners:
        promote(trained, MODEL, "v1")
        assert one.step()
        after.append(leaves(trained, LEAVING))
    assert after[0] < before - 0.1
    assert after[1] > after[0] + 0.05


def test_the_reservoir_gives_each_example_the_same_chance(engine: Engine) -> None:
    online = learner(engine, reservoir=400)
    for number in range(2_000):
        online._offer(TrainingExample(LEAVING, str(number)))
    kept = Counter(int(one.label) // 500 for one in online._reservoir)
    assert kept.total() == 400
    assert all(70 < kept[quarter] < 130 for quarter in range(4))


def test_a_model_that_is_watched_only_learns_nothing_online(trained: Engine) -> None:
    online = learner(trained)
    online.step()
    hand_over(trained, MODEL, learns=False)
    send(trained, turned(30, seed=10, day=2))
    assert not online.step()
    assert champion(trained)[0] == "v1"


def test_one_of_two_learners_learns_and_old_steps_are_removed(trained: Engine) -> None:
    stop = threading.Event()
    learners = [learner(trained, every_s=0.0, batch=10, keep=3) for _ in range(2)]
    threads = [threading.Thread(target=one.run, args=[stop]) for one in learners]
    for thread in threads:
        thread.start()
    try:
        for number in range(4):
            send(trained, turned(20, seed=10 + number, day=2 + number))
        for _ in range(600):
            if champion(trained)[0] == "v1.8" or stop.wait(0.1):
                break
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    rows = trained.rows("select model_version from events.model_events where event = 'promoted'")
    names = [row["model_version"] for row in rows]
    assert sorted(names) == sorted(set(names))
    assert {"v1", "v1.1"} <= set(names)
    steps = [path.name for path in trained.settings.artifacts_path.glob("*/v1.*")]
    assert len(steps) == 3


def test_a_label_is_learned_once(trained: Engine) -> None:
    online = learner(trained)
    online.step()
    pairs = list(turned(30, seed=10, day=2))
    send(trained, iter(pairs))
    assert online.step()
    again = [(answer, structs.replace(said, feedback_id="")) for answer, said in pairs]
    send(trained, iter(again))
    assert not online.step()


def test_a_full_run_is_measured_by_what_the_steps_answered(trained: Engine) -> None:
    online = learner(trained)
    online.step()
    served: list[tuple[Inference, Feedback]] = []
    for answer, said in customers(300, seed=7, day=3):
        assert isinstance(answer, Inference) and isinstance(said, Feedback)
        served.append((structs.replace(answer, model_version="v1.1", score=0.5), said))
    send(trained, iter(served))
    assert online.step()
    with Trainer(trained) as trainer:
        assert trainer.run_once()
    (row,) = trained.rows("select reason from headrace.model_versions where model_version = 'v2'")
    assert "against v1, as it was logged" in row["reason"]


def test_a_correction_holds_at_once_and_in_the_versions_after_it(trained: Engine) -> None:
    with pytest.raises(ModelError, match="label: must be one of leaves, stays, got 'x'"):
        correct(trained, MODEL, "1-0", "x")
    with pytest.raises(ModelError, match="has no request 'none'"):
        correct(trained, MODEL, "none", "stays")
    (row,) = trained.rows("select segment, features from events.inference where request_id = '1-0'")
    asked = Example("", row["segment"], row["features"])
    wrong = "stays" if leaves(trained, asked) > 0.5 else "leaves"
    others = leaves(trained, LEAVING), leaves(trained, STAYING)
    assert correct(trained, MODEL, "1-0", wrong) == "v1.1"
    assert (leaves(trained, asked) > 0.5) == (wrong == "leaves")
    assert (leaves(trained, LEAVING), leaves(trained, STAYING)) == others
    online_features = {**row["features"], "segment_features__labels_30d": 3.0}
    assert (leaves(trained, replace(asked, features=online_features)) > 0.5) == (wrong == "leaves")
    online = learner(trained)
    online.step()
    send(trained, turned(30, seed=10, day=2))
    assert online.step()
    assert champion(trained)[0] == "v1.2"
    assert (leaves(trained, asked) > 0.5) == (wrong == "leaves")
    assert rollback(trained, MODEL, "no") == ("v1.2", "v1.1")
    assert rollback(trained, MODEL, "no") == ("v1.1", "v1")

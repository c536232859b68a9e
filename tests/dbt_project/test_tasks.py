"""What a model does, what its score is the probability of, and which metrics follow from it."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from headrace.control import policies
from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.labels import class_of
from headrace.events.log import EventLog
from tests.support.closeness import SCORE_BIN
from tests.support.oracle import calibration_error
from tests.support.policies import set_policies
from tests.support.stored import empty
from tests.support.streams import EXAMPLES, START, send

Batch = list[tuple[Topic, Event]]
NAMES = [
    ("fraud", "legit"), ("legit", "fraud"), ("1", "0"), ("0", "1"), ("yes", "no"), ("no", "yes"),
    ("True", "False"), ("größe ✓", "a"),
]  # fmt: skip


def asked(number: int, **fields: Any) -> tuple[Topic, Event]:
    time = (START + timedelta(seconds=number)).isoformat()
    event = {"request_id": f"r{number}", "model": "m", "event_time": time, **fields}
    return "inference", parse("inference", event)


def said(number: int, **fields: Any) -> tuple[Topic, Event]:
    time = (START + timedelta(hours=1, seconds=number)).isoformat()
    event = {"request_id": f"r{number}", "feedback_id": f"f{number}", "event_time": time, **fields}
    return "feedback", parse("feedback", event)


def one(engine: Engine, query: str) -> dict[str, Any]:
    (row,) = engine.rows(query)
    return row


def quality(engine: Engine) -> dict[str, Any]:
    return one(
        engine,
        "select * from headrace.model_performance where window_name = '30 days' "
        "order by window_end limit 1",
    )


def binary(seed: int, names: tuple[str, str], threshold: float, shape: float) -> Batch:
    """A model of two classes and a threshold, whose score is the probability of the first one."""
    rng = random.Random(seed)
    events = []
    for number in range(rng.randrange(1, 120)):
        score = rng.random() ** shape
        events.append(asked(number, prediction=names[score < threshold], score=score))
        if rng.random() < 0.8:
            events.append(said(number, label=names[rng.random() >= score]))
    rng.shuffle(events)
    return events


@EXAMPLES
@given(
    seed=st.integers(0, 2**16),
    names=st.sampled_from(NAMES),
    threshold=st.sampled_from([0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98]),
    shape=st.sampled_from([0.2, 1.0, 3.0, 8.0]),
)
def test_the_positive_class_is_right_or_unknown(
    engine: Engine,
    log: EventLog,
    seed: int,
    names: tuple[str, str],
    threshold: float,
    shape: float,
) -> None:
    empty(engine)
    policies.write(engine, "*", {"positive_label": ""})
    events = binary(seed, names, threshold, shape)
    for start in range(0, len(events), 60):
        send(log, events[start : start + 60])
        row = one(engine, "select * from headrace.positive_labels")
        assert row["positive_label"] in (class_of(names[0]), None), row
        assert row["score_of"] in ("positive_label", None), row
        assert (row["positive_label"] is None) == ("not clear" in row["null_because"])


def test_a_model_that_never_passes_its_threshold(engine: Engine, log: EventLog) -> None:
    """The only class that it predicts, with low scores, is not the positive one."""
    rng = random.Random(1)
    scores = [rng.random() ** 3 * 0.45 for _ in range(1000)]
    fraud = [rng.random() < score * 0.5 for score in scores]
    send(log, [asked(i, prediction="legit", score=score) for i, score in enumerate(scores)])
    row = quality(engine)
    assert (row["auc"], row["positives"], row["positive_label"]) == (None, None, None)
    assert "positive_label" in row["null_because"]
    send(log, [said(i, label="fraud" if yes else "legit") for i, yes in enumerate(fraud)])

    def check() -> None:
        row = quality(engine)
        assert (row["positive_label"], row["positive_source"]) == ("fraud", "inferred")
        assert abs(row["auc"] - roc_auc_score(fraud, scores)) <= row["auc_error"] + 1e-12
        assert (row["positives"], row["recall"]) == (sum(fraud), 0)

    check()
    send(log, [asked(2000, prediction="fraud", score=0.6)])
    check()


def test_rewards_are_not_compared_with_predictions(engine: Engine, log: EventLog) -> None:
    """Nine of ten thumbs are up; then hardly any. No prediction was wrong by that."""
    set_policies(engine, min_sample="10", page_hinkley_threshold="0.1")
    topics = ["sport", "wine", "1"]
    events = []
    for number in range(0, 40_000, 40):
        up = number % 400 > 0 if number < 30_000 else number % 400 == 0
        events.append(asked(number, prediction=topics[number % 3]))
        events.append(said(number, kind="thumbs", value=float(up)))
    send(log, events)
    assert one(engine, "select task, source from headrace.model_tasks") == {
        "task": "reward",
        "source": "inferred",
    }
    row = quality(engine)
    assert row["labeled"] > 0
    assert row["mean_reward"] is not None
    for name in ("accuracy", "precision", "recall", "f1", "macro_f1", "log_loss", "rmse"):
        assert row[name] is None, name
    assert "not compared" in row["null_because"]
    concept = one(engine, "select status, task from headrace.concept_drift")
    assert concept == {"status": "too few rows", "task": "reward"}
    assert engine.rows("select 1 from headrace.alerts where alert = 'concept_drift'") == []
    accuracies = engine.rows("select accuracy from headrace.flywheel_health")
    assert {row["accuracy"] for row in accuracies} == {None}


@EXAMPLES
@given(seed=st.integers(0, 2**16), silence=st.sampled_from(["", "ranking"]))
def test_the_score_of_a_reward_model(
    engine: Engine, log: EventLog, seed: int, silence: str
) -> None:
    """Of predictions that are items, whose score is the probability of a click."""
    empty(engine)
    rng = random.Random(seed)
    scores = [rng.random() for _ in range(rng.randrange(2, 60))]
    clicks = [float(rng.random() < score) for score in scores]
    events = [asked(i, prediction=str(i % 5), score=score) for i, score in enumerate(scores)]
    events += [said(i, kind="click", value=click) for i, click in enumerate(clicks)]
    events += [asked(999, prediction="2"), said(999, kind="dwell", value=12.5)]
    rng.shuffle(events)
    send(log, events)
    policies.write(engine, "m", {"task": silence or None})
    row = quality(engine)
    assert row["accuracy"] is None
    assert row["mean_reward"] == pytest.approx((sum(clicks) + 12.5) / (len(clicks) + 1))
    if silence:
        assert (row["log_loss"], row["brier"], row["auc"]) == (None, None, None)
        assert row["null_because"] == "task ranking: only rewards are measured"
        return
    y, p = np.array(clicks), np.array(scores)
    assert row["positive_label"] == "1"
    assert row["brier"] == pytest.approx(float(((y - p) ** 2).mean()), abs=2e-6)
    if len(set(clicks)) == 2:
        assert abs(row["auc"] - roc_auc_score(y, p)) <= row["auc_error"] + 1e-12


def test_a_label_outranks_a_later_reward(engine: Engine, log: EventLog) -> None:
    later = {"event_time": (START + timedelta(days=1)).isoformat(), "feedback_id": "later"}
    send(log, [asked(0, prediction="delivery"), said(0, label="delivery")])
    send(log, [said(0, kind="dwell", value=12.5, **later)])
    assert one(engine, "select label from headrace.labeled_examples")["label"] == "delivery"
    assert quality(engine)["accuracy"] == 1
    assert one(engine, "select task from headrace.model_tasks")["task"] == "classification"


@EXAMPLES
@given(seed=st.integers(0, 2**16), count=st.integers(3, 12), revised=st.booleans())
def test_many_classes(engine: Engine, log: EventLog, seed: int, count: int, revised: bool) -> None:
    """A score is that of the predicted class: how often is it right, and on which class?"""
    empty(engine)
    policies.write(engine, "*", {"positive_label": ""})
    rng = np.random.default_rng(seed)
    names = [f"class {number}" for number in range(count)]
    p = rng.dirichlet(np.full(count, 0.6), size=80)
    predicted = [names[i] for i in p.argmax(1)]
    truth = [names[rng.choice(count, p=row)] for row in p]
    scores = p.max(1)
    events: Batch = [asked(i, prediction=predicted[i], score=float(scores[i])) for i in range(80)]
    events += [said(i, label=truth[i]) for i in range(60)]
    if revised:
        early = {"event_time": START.isoformat()}
        events += [said(i, label=names[0], feedback_id=f"e{i}", **early) for i in range(60)]
    random.Random(seed).shuffle(events)
    send(log, events)
    row = quality(engine)
    right = np.array([a == b for a, b in zip(predicted, truth, strict=True)][:60], dtype=float)
    q = scores[:60]
    assert row["positive_label"] is None
    assert (row["auc"], row["precision"], row["f1"], row["positives"]) == (None,) * 4
    assert row["accuracy"] == pytest.approx(right.mean())
    if len({*predicted, *truth[:60]}) < 3:
        return
    assert row["score_of"] == "prediction"
    assert "classes" in row["null_because"]
    assert row["brier"] == pytest.approx(((right - q) ** 2).mean(), abs=2e-6)
    assert row["calibration_error"] == pytest.approx(calibration_error(right, q), abs=SCORE_BIN)
    clipped = np.clip(np.where(right == 1, q, 1 - q), 1e-6, 1)
    assert row["log_loss"] == pytest.approx(-np.log(clipped).mean(), abs=2e-6)
    check_classes(engine, predicted[:60], truth[:60])
    queue = engine.rows("select request_id from headrace.review_queue order by place")
    least = sorted(range(60, 80), key=lambda i: scores[i])
    assert [row["request_id"] for row in queue] == [f"r{i}" for i in least]


def check_classes(engine: Engine, predicted: list[str], truth: list[str]) -> None:
    cells = engine.rows("select label, prediction, examples from headrace.class_confusion")
    counted = {(row["label"], row["prediction"]): row["examples"] for row in cells}
    assert counted == Counter(zip(truth, predicted, strict=True))
    rows = {row["class"]: row for row in engine.rows("select * from headrace.class_performance")}
    names = sorted({*truth, *predicted})
    assert sorted(rows) == names
    wanted = precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0)
    for name, precision, recall, f1, labeled in zip(names, *wanted, strict=True):
        row = rows[name]
        assert row["labeled"] == labeled
        assert (row["precision"] or 0) == pytest.approx(precision)
        assert (row["recall"] or 0) == pytest.approx(recall)
        assert row["f1"] == pytest.approx(f1)

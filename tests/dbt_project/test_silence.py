"""Silence is a label as any other, and what was said is not forgotten."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.label_oracle import Silence
from tests.support.oracle import Oracle
from tests.support.performance import check_performance
from tests.support.policies import STRETCHES, set_policies, stretched
from tests.support.rewards import SILENCES
from tests.support.stored import COUNTED, empty
from tests.support.streams import EXAMPLES, MODELS, START, Stream, first_of_each, send, streams

EXAMPLES = settings(EXAMPLES, max_examples=20)
ABOVE = (
    "label_panes", "label_counts", "label_arrivals", "arm_panes", "item_label_panes", "class_panes",
    "known_labels", "segment_label_panes",
)  # fmt: skip
_terms = st.tuples(st.sampled_from(["*", MODELS[0]]), SILENCES)


@EXAMPLES
@given(
    stream=streams(),
    stretch=STRETCHES,
    changes=st.lists(st.tuples(st.integers(0, 5), _terms), max_size=4),
)
def test_labels_follow_events_and_policies_alone(
    engine: Engine,
    log: EventLog,
    stream: Stream,
    stretch: float,
    changes: list[tuple[int, Any]],
    compiled: dict[str, str],
) -> None:
    """Whenever policies are set, before, between or after the events, the rows are the same."""
    empty(engine)
    stream = stretched(stream, stretch)
    terms: dict[str, Silence | None] = {}
    with engine.connect() as connection:
        connection.execute("delete from control.policies where model != '*'")
    for name in ("*", MODELS[0]):
        set_policies(engine, name, default_label="", label_window="0 seconds")
    for number, batch in enumerate([*stream.batches, []]):
        for place, (model, silence) in changes:
            if place == number or (not batch and place > number):
                govern(engine, model, silence)
                terms[model] = silence
        send(log, batch)
    own = terms.get(MODELS[0])
    by_model = {MODELS[0]: own, MODELS[1]: terms.get("*")}
    oracle = Oracle(
        *first_of_each(stream), silence={name: said for name, said in by_model.items() if said}
    )
    rows = engine.rows(
        "select request_id, feedback_id, label, kind, known_at, settled_at, reward "
        "from panes.labels"
    )
    assert {row["request_id"]: (*row.values(),)[1:-1] for row in rows} == {
        name: (
            held.event.feedback_id if held.event else None,
            held.label,
            held.kind,
            held.known_at,
            held.settled_at,
        )
        for name, held in oracle.labels.items()
    }
    assert {row["request_id"]: row["reward"] for row in rows} == pytest.approx(
        {name: oracle.reward(oracle.inference[name]) for name in oracle.labels}
    )
    check_performance(engine, oracle)
    for name in ABOVE:
        live = f"where {COUNTED[name]} != 0" if name in COUNTED else ""
        difference = engine.rows(
            f"(select * from panes.{name} {live} except all ({compiled[name]})) union all "
            f"(({compiled[name]}) except all select * from panes.{name} {live})"
        )
        assert difference == [], name


def govern(engine: Engine, model: str, silence: Silence | None) -> None:
    said = silence or Silence("")
    window = f"{said.window.total_seconds()} seconds"
    set_policies(engine, model, default_label=said.label, label_window=window)


def test_clicks_and_silence_are_two_classes_everywhere(engine: Engine, log: EventLog) -> None:
    """3,000 advertisements, 610 clicks, and a label window of which the last 49 are open."""
    window = timedelta(minutes=49)
    set_policies(engine, "ads", default_label="0", label_window="49 minutes", learn="on")
    set_policies(engine, "ads", positive_label="1", metric_window="100 days")
    rng = random.Random(7)
    clicked = set(rng.sample(range(3_000), 610))
    scores = [round(rng.random() * 0.7 + 0.3 * (i in clicked), 3) for i in range(3_000)]
    events: list[tuple[Topic, Event]] = []
    for i, score in enumerate(scores):
        at = START + timedelta(minutes=i)
        asked = {"request_id": f"r{i}", "model": "ads", "prediction": f"{i % 3}", "score": score}
        events.append(("inference", parse("inference", {**asked, "event_time": at.isoformat()})))
        if i in clicked:
            said = {"request_id": f"r{i}", "kind": "click", "event_time": at.isoformat()}
            events.append(("feedback", parse("feedback", said)))
    for start in range(0, len(events), 700):
        send(log, events[start : start + 700])

    closed = range(3_000 - 49)
    labels = [i in clicked for i in closed]
    (recent,) = engine.rows("select * from headrace.recent_performance")
    assert (recent["labeled"], recent["positives"]) == (len(closed), sum(labels))
    auc = roc_auc_score(labels, [scores[i] for i in closed])
    assert abs(recent["auc"] - auc) <= recent["auc_error"] + 1e-12
    assert recent["mean_reward"] == pytest.approx(sum(labels) / len(closed))
    (performance,) = engine.rows(
        "select labeled, auc, mean_reward from headrace.model_performance "
        "where window_name = '30 days' order by window_end desc limit 1"
    )
    assert performance == {name: recent[name] for name in performance}
    pulls = engine.rows("select arm, pulls, mean_reward from headrace.arm_stats order by arm")
    for k, row in enumerate(pulls):
        of_arm = labels[k::3]
        assert (row["arm"], row["pulls"]) == (f"{k}", len(of_arm))
        assert row["mean_reward"] == pytest.approx(sum(of_arm) / len(of_arm))
    (trigger,) = engine.rows("select * from headrace.retrain_trigger")
    assert (trigger["due"], trigger["reason"]) == (True, f"{len(closed)} new labels")
    waited = engine.rows("select request_id, closes_at from headrace.pending_labels")
    assert {row["request_id"]: row["closes_at"] for row in waited} == {
        f"r{i}": START + timedelta(minutes=i) + window
        for i in range(3_000 - 49, 3_000)
        if i not in clicked
    }
    # a click after the window takes the place of silence
    late = next(i for i in closed if i not in clicked)
    when = (START + timedelta(minutes=2_999)).isoformat()
    said = {"request_id": f"r{late}", "kind": "click", "event_time": when}
    send(log, [("feedback", parse("feedback", said))])
    (recent,) = engine.rows("select * from headrace.recent_performance")
    assert (recent["labeled"], recent["positives"]) == (len(closed), sum(labels) + 1)


def labelled(name: str, at: datetime, **said: Any) -> list[tuple[Topic, Any]]:
    asked = {"request_id": name, "model": "m", "event_time": at.isoformat(), "score": 0.5}
    return [
        ("inference", parse("inference", {**asked, "prediction": "yes"})),
        ("feedback", parse("feedback", {"request_id": name, "event_time": at.isoformat(), **said})),
    ]


def test_labels_live_as_long_as_their_events(engine: Engine, log: EventLog) -> None:
    for day in range(0, 900, 10):
        label = "yes" if day % 20 else "no"
        send(log, labelled(f"r{day}", START + timedelta(days=day), label=label))
    with engine.connect() as connection:
        connection.execute("select control.expire()")
    (row,) = engine.rows(
        "select (select count(*) from headrace.labeled_examples) as labels, "
        "(select count(*) from headrace.pending_labels) as pending, "
        "examples, new_labels from headrace.labels_since_run"
    )
    assert row == {"labels": 90, "pending": 0, "examples": 90, "new_labels": 90}
    # of 90 months-long windows those are listed that are kept whole
    windows = engine.rows(
        "select window_start, window_end, labeled, inferences from headrace.model_performance "
        "where window_name = '30 days'"
    )
    first = START + timedelta(days=890 - 400)
    assert min(row["window_start"] for row in windows) >= first
    for row in windows:
        days = [START + timedelta(days=day) for day in range(0, 900, 10)]
        inside = sum(row["window_start"] <= at < row["window_end"] for at in days)
        assert row["inferences"] == row["labeled"] == inside


def test_what_changes_nothing_is_no_new_label(engine: Engine, log: EventLog) -> None:
    def new_labels() -> int:
        (row,) = engine.rows("select new_labels from headrace.labels_since_run")
        return int(row["new_labels"])

    def say(name: str, **said: Any) -> None:
        at = (START + timedelta(hours=1)).isoformat()
        said = {"request_id": name, "event_time": at, **said}
        send(log, [("feedback", parse("feedback", said))])

    send(log, labelled("a", START, label="yes") + labelled("b", START, label="no"))
    assert new_labels() == 2
    run = {"model": "m", "model_version": "v1", "event": "rejected"}
    send(log, [("model_events", parse("model_events", {**run, "event_time": START.isoformat()}))])
    assert new_labels() == 0
    say("a", label="yes")
    shadow = {"request_id": "s", "model": "m", "variant": "shadow", "shadow_of": "a"}
    send(log, [("inference", parse("inference", {**shadow, "event_time": START.isoformat()}))])
    assert new_labels() == 0
    say("b", label="yes")
    assert new_labels() == 1


@pytest.mark.parametrize("ids", [("a", "B"), ("é", "z"), ("f10", "f9")])
@pytest.mark.parametrize("turned", [False, True])
def test_of_two_labels_at_one_instant_the_greater_id_wins(
    engine: Engine, log: EventLog, ids: tuple[str, str], turned: bool
) -> None:
    winner = max(ids, key=str.encode)
    send(log, labelled("r", START, label="maybe", feedback_id="0")[:1])
    for name in reversed(ids) if turned else ids:
        said = {"request_id": "r", "feedback_id": name, "event_time": START.isoformat()}
        send(log, [("feedback", parse("feedback", {**said, "label": f"by {name}"}))])
    assert engine.rows("select label from headrace.labeled_examples") == [{"label": f"by {winner}"}]

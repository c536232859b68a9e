"""Whether serving changes what is fed back: a naive recompute, and simulated loops."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from headrace.control.conductor import due_steps
from headrace.control.lifecycle import rolls_out
from headrace.engine import Engine
from headrace.events.contract import Topic, parse
from headrace.events.log import EventLog
from tests.support.oracle import Oracle
from tests.support.performative import MIN_SAMPLE, checks, p_values
from tests.support.policies import set_policies
from tests.support.rewards import EXAMPLES, Story, same, stories
from tests.support.stored import empty
from tests.support.streams import START, send


@pytest.mark.filterwarnings("ignore:Precision loss")
@EXAMPLES
@given(story=stories())
def test_performative_check(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    set_policies(engine, min_sample=str(MIN_SAMPLE))
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.performative_check")
        actual = {row["model"]: row for row in rows}
        wanted = checks(oracle, story.lives)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for model, want in wanted.items():
            found = want.pop("outcomes", None)
            same(actual[model], want)
            if found is None:
                continue
            shown = found[actual[model]["measure"], actual[model]["label"]]
            same(actual[model], shown)
            least = min((p for row in found.values() for p in p_values(row)), default=math.inf)
            assert min(p_values(shown), default=math.inf) == pytest.approx(least, rel=1e-6)

    story.tell(log, check)


def loops(
    draw: np.random.Generator,
    model: str,
    hours: int,
    *,
    users: int,
    promoted_at: int,
    answers: float = 0.6,
    shift: float = 0.0,
    right: tuple[float, float] = (0.7, 0.7),
) -> list[list[tuple[Topic, Any]]]:
    """Hours of a model's traffic: 200 predictions each, a fifth of the users held back.

    Users answer or not by rates of their own, of mean `answers`. A share `shift` of the spam
    that is served after the promotion is not said to be spam; `right` says how often the answer
    is, served and held back.
    """
    rates = draw.beta(4 * answers, 4 * (1 - answers), users)
    batches = []
    for hour in range(hours):
        batch: list[tuple[Topic, Any]] = []
        for number in range(200):
            user = int(draw.integers(users))
            is_held = user % 5 == 0
            name = f"{model}-{hour}-{number}"
            time = (START + timedelta(hours=hour, seconds=10 * number)).isoformat()
            truth = draw.random() < 0.3
            if truth and not is_held and hour >= promoted_at:
                truth = draw.random() >= shift
            is_right = draw.random() < right[is_held]
            asked = {
                "request_id": name, "event_time": time, "model": model, "user_id": f"u{user}",
                "model_version": "v1" if is_held or hour < promoted_at else "v2",
                "variant": "holdout" if is_held else "champion",
                "prediction": "spam" if truth == is_right else "ham",
            }  # fmt: skip
            batch.append(("inference", parse("inference", asked)))
            if draw.random() < rates[user]:
                said = {
                    "feedback_id": name, "request_id": name, "event_time": time, "kind": "label",
                    "label": "spam" if truth else "ham",
                }  # fmt: skip
                batch.append(("feedback", parse("feedback", said)))
        batches.append(batch)
    return batches


def life(model: str, version: str, event: str, hour: int) -> tuple[Topic, Any]:
    return ("model_events", parse("model_events", {
        "event_time": (START + timedelta(hours=hour)).isoformat(), "model": model,
        "model_version": version, "event": event, "artifact_uri": version,
    }))  # fmt: skip


def lives(model: str, promoted_at: int) -> list[tuple[Topic, Any]]:
    return [life(model, "v1", "promoted", 0), life(model, "v2", "promoted", promoted_at)]


def test_a_loop_without_an_effect_is_left_alone(engine: Engine, log: EventLog) -> None:
    """Twelve models whose served versions are better, looked at after each of four hours."""
    draw = np.random.default_rng(7)
    names = [f"m{number}" for number in range(12)]
    set_policies(engine, min_sample="40")
    told = {n: loops(draw, n, 4, users=400, promoted_at=2, right=(0.9, 0.6)) for n in names}
    send(log, [life for name in names for life in lives(name, 2)])
    alarmed = set()
    for hour in range(4):
        send(log, [event for name in names for event in told[name][hour]])
        rows = engine.rows("select model, status from headrace.performative_check")
        alarmed |= {row["model"] for row in rows if row["status"] == "feeds back"}
    # At most one of twenty, looked at for ever; three of twelve once in fifty times.
    assert len(alarmed) <= 2
    assert {row["status"] for row in rows} == {"none"}


def test_a_loop_that_feeds_on_itself_is_found_and_halted(engine: Engine, log: EventLog) -> None:
    draw = np.random.default_rng(3)
    send(log, [*lives("fed", 2), *lives("harmed", 2)])
    for name, right in (("fed", (0.7, 0.7)), ("harmed", (0.3, 0.9))):
        for batch in loops(draw, name, 6, users=2_000, promoted_at=2, shift=0.9, right=right):
            send(log, batch)
    set_policies(engine, learn="on", min_new_labels="10")
    found = {row["model"]: row for row in engine.rows("select * from headrace.performative_check")}
    assert {row["status"] for row in found.values()} == {"feeds back"}
    for row in found.values():
        assert (row["measure"], row["label"] in ("spam", "ham")) == ("label", True)
        assert abs(row["share_moved"]) > 0.1 > abs(row["holdout_share_moved"])
    assert (found["fed"]["halts"], found["harmed"]["halts"]) == (False, True)
    held = {
        row["model"]: row["held_back_by"]
        for row in engine.rows("select model, held_back_by from headrace.retrain_trigger")
    }
    assert "performative_check" in held["harmed"] and "performative" not in str(held["fed"])
    send(log, [life(name, "v3", "trained", 5) for name in ("fed", "harmed")])
    assert [(step.model, step.event) for step in due_steps(engine)] == [("fed", "promoted")]
    (waits,) = engine.rows("select * from headrace.rollout_trigger where model = 'harmed'")
    assert waits["held_back_by"].startswith("performative_check: ")
    assert waits["held_back_by"].endswith("headrace promote harmed v3")
    assert (rolls_out(engine, "fed"), rolls_out(engine, "harmed")) == (False, True)
    alerts = engine.rows(
        "select model, severity from headrace.alerts where alert = 'feeds_back' order by model"
    )
    assert [row["severity"] for row in alerts] == ["warning", "critical"]


def test_people_who_come_back_are_no_loop(engine: Engine, log: EventLog) -> None:
    """80 users who each always say the same, of whom chance holds some back."""
    events: list[tuple[Topic, Any]] = []
    for number in range(1_600):
        user = number % 80
        name, is_held = f"r{number}", user % 4 == 0
        time = (START + timedelta(seconds=number)).isoformat()
        asked = {
            "request_id": name, "event_time": time, "model": "m", "user_id": f"u{user}",
            "model_version": "v1", "variant": "holdout" if is_held else "champion",
            "prediction": "yes",
        }  # fmt: skip
        # 8 of 20 held back say yes, 36 of 60 served: 40 and 60 % of labels, but of few users
        says = user // 4 < 8 if is_held else user < 48
        said = {
            "feedback_id": name, "request_id": name, "event_time": time,
            "label": "yes" if says else "no",
        }  # fmt: skip
        events += [("inference", parse("inference", asked)), ("feedback", parse("feedback", said))]
    send(log, events)
    (row,) = engine.rows("select * from headrace.performative_check")
    assert row["status"] == "none" and row["design_effect"] > 5
    assert row["holdout_labels"] == 400 and abs(row["difference"]) > 0.15

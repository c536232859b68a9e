"""Canaries against their champions: a naive recompute, and each verdict."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from headrace.engine import Engine
from headrace.events.contract import Topic, parse
from headrace.events.log import EventLog
from tests.support.canary_oracle import canaries
from tests.support.closeness import SKETCH, close
from tests.support.oracle import Oracle
from tests.support.policies import set_policies
from tests.support.rewards import (
    EXAMPLES,
    Row,
    Story,
    interval,
    same,
    stories,
)
from tests.support.stored import empty
from tests.support.streams import START, send
from tests.support.units import LEAST, group_of


@pytest.mark.filterwarnings("ignore:Precision loss")  # SciPy, where one side is constant
@EXAMPLES
@given(story=stories())
def test_canary_verdict(engine: Engine, log: EventLog, story: Story) -> None:
    empty(engine)
    set_policies(engine, min_sample="2")
    story.govern(engine)

    def check(oracle: Oracle) -> None:
        rows = engine.rows("select * from headrace.canary_verdict")
        actual = {(row["model"], row["model_version"]): row for row in rows}
        wanted = canaries(oracle, story.lives)
        assert actual.keys() == wanted.keys() and len(rows) == len(wanted)
        for key, want in wanted.items():
            for name in ("latency_p95_ms", "champion_latency_p95_ms"):
                assert close(actual[key][name], want.pop(name), rel=SKETCH), (key, name)
            same(actual[key], want)

    story.tell(log, check)


def lives(**more: str) -> list[tuple[Topic, Any]]:
    return [
        ("model_events", parse("model_events", {"event_time": START.isoformat(), **life, **more}))
        for life in (
            {"model": "m", "model_version": "v1", "event": "promoted"},
            {"model": "m", "model_version": "v2", "event": "canary", "traffic": 0.5},
        )
    ]


def inferences(
    version: str, variant: str, number: int, right: float, errors: float = 0.0
) -> list[tuple[Topic, Any]]:
    """So many predictions a minute apart, of which shares are right and failed."""
    events: list[tuple[Topic, dict[str, Any]]] = []
    for i in range(number):
        time = (START + timedelta(minutes=i)).isoformat()
        name = f"{version}-{i}"
        asked = {"request_id": name, "event_time": time, "model": "m", "model_version": version}
        asked |= {"variant": variant, "prediction": "yes"}
        asked |= {"error": "timeout"} if i * errors % 1 + errors >= 1 else {}
        label = "yes" if i * right % 1 + right >= 1 else "no"
        said = {"feedback_id": name, "request_id": name, "event_time": time, "label": label}
        events += [("inference", asked), ("feedback", said)]
    return [(topic, parse(topic, event)) for topic, event in events]


@pytest.mark.parametrize(
    ("canary", "champion", "wanted"),
    [
        ((300, 0.5, 0.0), (1000, 0.9, 0.0), ("rollback", "lower reward")),
        ((300, 0.9, 0.5), (1000, 0.9, 0.0), ("rollback", "more errors")),
        ((100, 0.5, 0.25), (1000, 0.5, 0.25), ("continue", "undecided")),
        ((300, 0.9, 0.0), (1000, 0.5, 0.0), ("promote", "higher reward")),
        ((40, 1.0, 0.0), (1000, 0.25, 0.0), ("promote", "higher reward")),
        ((40, 0.9, 0.0), (1000, 0.9, 0.0), ("continue", "too few labels")),
        ((300, 0.0, 0.0), (1000, 0.0, 0.0), ("continue", "no reward")),
        ((500, 1.0, 0.0), (1000, 1.0, 0.0), ("promote", "no loss")),
        ((1000, 0.9, 0.0), (1000, 0.9, 0.0), ("promote", "no loss")),
        ((1000, 0.01, 0.0), (1000, 0.02, 0.0), ("continue", "undecided")),
    ],
)
def test_each_verdict(
    engine: Engine,
    log: EventLog,
    canary: tuple[int, float, float],
    champion: tuple[int, float, float],
    wanted: tuple[str, str],
) -> None:
    send(
        log, lives() + inferences("v2", "canary", *canary) + inferences("v1", "champion", *champion)
    )
    (row,) = engine.rows("select verdict, reason from headrace.canary_verdict")
    assert (row["verdict"], row["reason"]) == wanted


def regulars(version: str, variant: str, users: int, right: int, user: str) -> list[Any]:
    """Twenty predictions for each of so many users, of whom some are always right, others never.

    user  how a user is named, if at all, by version, number of the user and of the prediction
    """
    events: list[tuple[Topic, dict[str, Any]]] = []
    for i in range(20 * users):
        time, name = (START + timedelta(minutes=i)).isoformat(), f"{version}-{i}"
        asked = {"request_id": name, "event_time": time, "model": "m", "model_version": version}
        asked |= {"variant": variant, "prediction": "yes"}
        asked |= json.loads(user.replace("VERSION", version).replace("USER", str(i % users))
                            .replace("PREDICTION", str(i)))  # fmt: skip
        said = {
            "request_id": name,
            "event_time": time,
            "label": "no" if i % users >= right else "yes",
        }
        events += [("inference", asked), ("feedback", said)]
    return [(topic, parse(topic, event)) for topic, event in events]


@pytest.mark.parametrize(
    ("user", "users", "wanted"),
    [
        ("{}", 30, "lower reward"),
        ('{"user_id": "VERSION-PREDICTION"}', 30, "lower reward"),
        ('{"user_id": "VERSION-USER"}', 30, "undecided"),
        ('{"session_id": "VERSION-USER"}', 30, "undecided"),
        ('{"user_id": "VERSION-USER"}', 5, "too few users"),
        ('{"user_id": "everybody"}', 30, "too few users"),
    ],
)
def test_people_are_counted(
    engine: Engine, log: EventLog, user: str, users: int, wanted: str
) -> None:
    """Of 30 users 12 against 18 is little, of 600 predictions 240 against 360 is much."""
    for version, variant, right in (
        ("v2", "canary", 2 * users // 5),
        ("v1", "champion", 3 * users // 5),
    ):
        send(log, lives() + regulars(version, variant, users, right, user))
    set_policies(engine, min_sample="50")
    (row,) = engine.rows("select * from headrace.canary_verdict")
    assert row["reason"] == wanted
    assert row["labels"] == row["champion_labels"] == 20 * users
    if "VERSION" not in user:
        assert row["design_effect"] in (None, 1)
    elif wanted == "undecided":
        assert 14 < row["design_effect"] < 40


def test_users_divided_by_a_plain_hash_fill_all_groups() -> None:
    """A sender may give versions to users by the first digits of the MD5 of their name."""
    names = [f"u{number}" for number in range(4000)]
    canary = [name for name in names if hashlib.md5(name.encode()).hexdigest() < "1"]
    assert len(canary) > 200 and len({group_of(name) for name in canary}) == 64


def clicked(version: str, variant: str, number: int, every: int) -> list[tuple[Topic, Any]]:
    """So many predictions a second apart, and a click on one of so many."""
    events: list[tuple[Topic, Any]] = []
    for i in range(number):
        time, name = (START + timedelta(seconds=i)).isoformat(), f"{version}-{i}"
        asked = {"request_id": name, "event_time": time, "model": "m", "model_version": version}
        asked |= {"variant": variant, "prediction": f"ad-{i % 7}"}
        events.append(("inference", parse("inference", asked)))
        if i % every == 0:
            events.append(("feedback", click(name, time)))
    return events


def click(name: str, time: str) -> Any:
    said = {"feedback_id": name, "request_id": name, "event_time": time}
    return parse("feedback", {**said, "kind": "click", "value": 1})


def test_predictions_without_a_click_count(engine: Engine, log: EventLog) -> None:
    """A canary that is clicked 2 times in a hundred is no match for a champion with 10."""
    events = clicked("v1", "champion", 3_000, 10) + clicked("v2", "canary", 3_000, 50)
    send(log, lives() + events)

    def verdict() -> Row:
        (row,) = engine.rows("select * from headrace.canary_verdict")
        return row

    assert (verdict()["labels"], verdict()["mean_reward"]) == (60, 1)
    set_policies(engine, "m", default_label="0")
    row = verdict()
    assert (row["labels"], row["champion_labels"]) == (3_000, 3_000)
    assert (row["mean_reward"], row["champion_mean_reward"]) == (0.02, 0.1)
    assert (row["verdict"], row["reason"]) == ("rollback", "lower reward")
    (taken,) = engine.rows("select * from headrace.rollback_trigger where variant = 'canary'")
    assert (taken["due"], taken["reason"]) == (
        True,
        "canary: lower reward, share 0.020 against 0.100",
    )
    assert (taken["canary_predictions"], taken["labels"]) == (3_000, 3_000)
    # 50 minutes of predictions, of which the window of the last ten is open
    set_policies(engine, "m", label_window="10 minutes")
    row = verdict()
    assert (row["labels"], row["champion_labels"]) == (2_400, 2_400)
    assert row["verdict"] == "rollback"
    # later feedback takes the place of silence
    set_policies(engine, "m", label_window="0 seconds")
    late = (START + timedelta(hours=1)).isoformat()
    send(log, [("feedback", click(f"v2-{i}", late)) for i in range(1, 2_500, 5)])
    row = verdict()
    assert row["mean_reward"] == pytest.approx((60 + 500) / 3_000)
    assert row["verdict"] == "promote"


@pytest.mark.parametrize(
    ("canary", "wanted"),
    [
        (600, ("promote", "higher reward", [])),
        (300, ("continue", "sample ratio", [{"subject": "v2"}])),
    ],
)
def test_a_share_that_was_not_planned_holds_the_canary_back(
    engine: Engine, log: EventLog, canary: int, wanted: tuple[str, str, list[Row]]
) -> None:
    """Half of the predictions after the first hour is planned, the champion has 540."""
    served = inferences("v2", "canary", canary, 1.0) + inferences("v1", "champion", 600, 0.5)
    send(log, lives(artifact_uri="a") + served)
    (row,) = engine.rows("select * from headrace.canary_verdict")
    assert row["planned_share"] == 0.5
    assert row["share"] == pytest.approx((canary - 60) / (canary - 60 + 540))
    alerts = engine.rows("select subject from headrace.alerts where alert = 'sample_ratio'")
    assert (row["verdict"], row["reason"], alerts) == wanted


@pytest.mark.parametrize(
    ("user", "is_alarm"), [("{}", True), ('{"user_id": "VERSION-USER"}', False)]
)
def test_few_users_who_stay_on_one_side_are_no_wrong_share(
    engine: Engine, log: EventLog, user: str, is_alarm: bool
) -> None:
    """Of 44 users 14 are little less than half, of 760 predictions 220 are much less."""
    for version, variant, users in (("v2", "canary", 14), ("v1", "champion", 30)):
        send(log, lives(artifact_uri="a") + regulars(version, variant, users, users, user))
    (row,) = engine.rows("select * from headrace.canary_share")
    assert (row["predictions"], row["champion_predictions"]) == (220, 540)
    alerts = engine.rows("select subject from headrace.alerts where alert = 'sample_ratio'")
    assert bool(alerts) == is_alarm
    if is_alarm:
        assert row["design_effect"] == 1
        return
    groups = Counter(group_of(f"v2-{number % 14}") for number in range(60, 280))
    sums = np.array([groups.get(f"{a:x}{b}", 0) for a in range(16) for b in range(4)], float)
    j = sums.sum() ** 2 / (sums**2).sum()
    dispersion = sums.var(ddof=1) * 64 / sums.sum()
    assert j >= LEAST and row["design_effect"] == pytest.approx(
        1 + (dispersion - 1) * j / (j - 3), rel=1e-9
    )


def test_a_status_settles_the_verdict(engine: Engine, log: EventLog) -> None:
    """What comes after a promotion changes nothing; a canary that is one again starts anew."""

    def verdicts() -> list[tuple[Any, ...]]:
        rows = engine.rows("select verdict, reason, labels from headrace.canary_verdict")
        return [tuple(row.values()) for row in rows]

    def happens(event: str, minute: int) -> None:
        life = {"model": "m", "model_version": "v2", "event": event, "artifact_uri": "a"}
        life |= {"event_time": (START + timedelta(minutes=minute)).isoformat()}
        send(log, [("model_events", parse("model_events", life))])

    served = inferences("v2", "canary", 200, 0.9) + inferences("v1", "champion", 200, 0.4)
    send(log, lives(artifact_uri="a") + served)
    assert verdicts() == [("promote", "higher reward", 200)]
    happens("promoted", 200)
    send(log, [
        ("feedback", parse("feedback", {
            "feedback_id": f"late-{i}", "request_id": f"v2-{i}", "label": "no",
            "event_time": (START + timedelta(minutes=300)).isoformat(),
        })) for i in range(200)
    ])  # fmt: skip
    assert verdicts() == []
    happens("canary", 301)
    assert verdicts() == [("continue", "too few labels", 0)]


def test_a_regression_is_compared_by_its_error(engine: Engine, log: EventLog) -> None:
    """Neither version is ever exact; the canary is off by 20 of 1,000, the champion by 2."""
    events = lives()
    for version, variant, off in (("v1", "champion", 2), ("v2", "canary", 20)):
        for i in range(400):
            time, name = (START + timedelta(minutes=i)).isoformat(), f"{version}-{i}"
            asked: Row = {"request_id": name, "event_time": time, "model": "m", "variant": variant}
            asked |= {"model_version": version, "prediction": 1000 + off * (i % 3 - 1.5)}
            said: Row = {"feedback_id": name, "request_id": name, "event_time": time, "label": 1000}
            events += [("inference", parse("inference", asked))]
            events += [("feedback", parse("feedback", said))]
    send(log, events)
    (row,) = engine.rows("select * from headrace.canary_verdict")
    assert (row["verdict"], row["reason"]) == ("rollback", "lower reward")
    assert row["measure"] == "absolute error"
    error = float(np.mean([abs(i % 3 - 1.5) for i in range(400)]))
    assert (row["mean_reward"], row["champion_mean_reward"]) == pytest.approx(
        (-20 * error, -2 * error)
    )


def test_interval_of_one_reward_is_open() -> None:
    assert interval([0.5], share=False) == (None, None)

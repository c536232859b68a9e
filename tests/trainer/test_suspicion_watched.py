"""Labels of pure chance make no version, also where the table of them gives the answers away."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headrace.control import policies
from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.trainer.watch import Trainer

MODEL = "coins/mąka"
START = datetime(2025, 3, 1, tzinfo=UTC)
LABELS = ("ok", "fraud")
Features = Callable[[random.Random, str], dict[str, Any]]


def send(engine: Engine, features: Features, *, day: int = 0, delay: int = 0) -> None:
    """Send a table of coin flips with one time a row, and a merchant of its own in each."""
    chance = random.Random(day)
    times = [START + timedelta(days=day, minutes=2 * number) for number in range(400)]
    inferences: list[dict[str, Any]] = []
    feedback: list[dict[str, Any]] = []
    for number, time in enumerate(times):
        name, label = f"{day}-{number}", chance.choice(LABELS)
        inferences.append(
            {
                "model": MODEL, "model_version": "external", "request_id": name,
                "event_time": time.isoformat(), "segment": f"merchant {name}",
                "features": features(chance, label),
            }
        )  # fmt: skip
        known_at = (time + timedelta(seconds=delay)).isoformat()
        feedback.append({"request_id": name, "event_time": known_at, "label": label})
    with EventLog(engine) as log:
        log.append("inference", [parse("inference", row) for row in inferences])
        log.append("feedback", [parse("feedback", row) for row in feedback])


def learn(engine: Engine, **values: str) -> dict[str, Any]:
    """Set policies, train once, and return what became of the newest version."""
    policies.write(engine, MODEL, {"learn": "on", "positive_label": "fraud", **values})
    with Trainer(engine) as trainer:
        assert trainer.run_once()
    made = engine.rows("select * from headrace.model_versions order by changed_at desc limit 1")
    return made[0]


def noise(chance: random.Random, _: str) -> dict[str, Any]:
    return {"noise": chance.random()}


def closed(chance: random.Random, label: str) -> dict[str, Any]:
    return {"noise": chance.random(), "closed": {"ok": "paid", "fraud": "charged back"}[label]}


@pytest.mark.parametrize("delay", [0, 1])
def test_coin_flips_of_one_time_a_row_make_no_version(engine: Engine, delay: int) -> None:
    send(engine, noise, delay=delay)
    made = learn(engine, min_new_labels="200", min_sample="50")
    assert made["status"] == "rejected"
    assert "asked" in made["reason"] or "may be chance" in made["reason"]
    assert engine.rows("select * from headrace.serving_plan") == []


def test_what_is_perfect_by_one_feature_waits_for_a_word(engine: Engine) -> None:
    send(engine, closed)
    made = learn(engine)
    assert made["status"] == "rejected"
    assert "feature 'closed' alone tells the labels apart" in made["reason"]
    assert f"headrace policy '{MODEL}' suspect_auc=1" in made["reason"]
    assert engine.rows("select * from headrace.serving_plan") == []

    send(engine, closed, day=1)
    assert learn(engine, suspect_auc="1")["status"] == "champion"

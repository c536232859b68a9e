"""Two weeks of a model's life in 2024."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.engine import Engine
from headrace.errors import ContractError
from headrace.events.contract import Topic, parse
from headrace.events.log import EventLog, Rejected

MODEL = r"""o'brien "$foo(1)" 50% & #1 \ ${x} <größe>"""
START = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)
PREDICTIONS = 600
STEP = timedelta(minutes=35)


def fill(engine: Engine, log: EventLog) -> None:
    randoms = random.Random(7)
    with engine.connect() as connection:
        connection.execute(
            "insert into control.policies (model, policy, value) values "
            "(%(model)s, 'drift_window', '5 days'), (%(model)s, 'metric_window', '14 days')",
            {"model": MODEL},
        )
        connection.execute(
            "insert into control.training_progress select 'run of ' || model, 1, model, model, "
            "'fit', 80, 320, 0.61234, 415.7, 75.2, now() - interval '21 seconds', now() "
            "from unnest(%s::text[]) as model",
            [[MODEL, "another"]],
        )
    rows: dict[Topic, list[dict[str, Any]]] = {
        "inference": [],
        "feedback": [],
        "model_events": list(_life()),
    }
    for number in range(PREDICTIONS):
        inference, feedback = _prediction(number, randoms)
        rows["inference"].append(inference)
        rows["feedback"] += feedback
    rows["feedback"].append({"feedback_id": "lost", "request_id": "never seen", "label": "yes"})
    for topic in ("model_events", "inference", "feedback"):
        log.submit(topic, [parse(topic, row) for row in rows[topic]]).result(30)
    error = ContractError("score", "a number in [0, 1]", "<b>7</b>")
    log.submit("inference", [Rejected({"score": 7}, error)])


def _prediction(number: int, randoms: random.Random) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    when = START + number * STEP
    version = f"v{1 + 3 * number // PREDICTIONS}"
    positive = randoms.random() < 0.4
    centre = 0.5 + (0.1 + 0.12 * (3 * number // PREDICTIONS)) * (1 if positive else -1)
    score = min(max(randoms.gauss(centre, 0.2), 0.0), 1.0)
    inference = {
        "request_id": f"r{number}",
        "event_time": when.isoformat(),
        "model": MODEL,
        "model_version": version,
        "segment": "ab"[number % 2],
        "features": {
            "amount": randoms.lognormvariate(0.004 * max(0, number - 400), 1),
            "country": randoms.choice(["DE", "FR", "US"]),
            "<script>": randoms.random() + 0.001 * number,
        },
        "prediction": "yes" if score > 0.5 else "no",
        "score": score,
        "latency_ms": 3 + 2 * randoms.expovariate(1) + 2 * math.sin(number / 50),
        "error": "timeout" if number % 97 == 0 else None,
    }
    if number > 550 or randoms.random() < 0.2:
        return inference, []
    label = {
        "feedback_id": f"f{number}",
        "request_id": f"r{number}",
        "event_time": (when + timedelta(hours=randoms.expovariate(0.1))).isoformat(),
        "label": "yes" if positive else "no",
    }
    return inference, [label]


def _life() -> Iterator[dict[str, Any]]:
    now = time.time()
    third = PREDICTIONS * STEP / 3
    for number in range(3):
        version, at = f"v{number + 1}", START + number * third
        common = {
            "model": MODEL,
            "model_version": version,
            "event_time": at.isoformat(),
            "trigger_id": f"{MODEL}/{number + 1}",
            "dataset_id": f"d{number}",
            "parent_version": f"v{number}" if number else None,
            "artifact_uri": f"file:{version}",
        }
        ends = [now - 20 - 9 * number + place for place in (-200, 0.0, 0.4, 1.5, 14.0, 15.2)]
        names = ("first_feedback_at", "last_feedback_at", "claimed_at", "compiled_at",
                 "trained_at", "gated_at")  # fmt: skip
        metrics = {
            **dict(zip(names, ends, strict=True)),
            "baseline_auc": 0.7 + 0.05 * number,
            "positive_label": "yes",
            "train_from": (at - third).timestamp(),
            "train_to": at.timestamp(),
        }
        yield {**common, "event": "trained", "metrics": metrics}
        yield {**common, "event": "promoted", "reason": f"auc {0.7 + 0.05 * number:.3f}"}
    yield {
        "model": MODEL,
        "model_version": "v4",
        "event": "rejected",
        "event_time": (START + 2.5 * third).isoformat(),
        "trigger_id": f"{MODEL}/4",
        "parent_version": "v3",
        "reason": "auc 0.781 against 0.803 of v3",
        "metrics": {"baseline_auc": 0.781},
    }

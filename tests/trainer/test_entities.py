"""The features of users, sessions and items in a training set: as of each example, or as served."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.features.reader import FeatureReader
from headrace.trainer.dataset import compile_dataset
from tests.support.claimed import claimed
from tests.support.policies import set_policies
from tests.support.segment_labels import START

KEYS = ("user_id", "session_id", "item_id")
Request = dict[str, Any]


def requests(seed: int) -> list[Request]:
    """Predictions in a few entities, some hours apart, each with a label up to a day later."""
    chance = random.Random(seed)
    made, at = [], START
    for number in range(60):
        at += timedelta(minutes=chance.randrange(1, 200))
        entity = {key: chance.choice([f"{key} 1", f"{key} 2", None]) for key in KEYS}
        made.append(
            {"request_id": f"r{number}", "at": at, **entity, "label": chance.choice(["yes", "no"]),
             "labelled_at": at + timedelta(minutes=chance.randrange(0, 1_500))}
        )  # fmt: skip
    return made


def known(made: list[Request], key: str, one: Request) -> tuple[Any, ...]:
    """What was known of an entity of a request: (predictions, labels, positives)."""

    def start(time: datetime) -> datetime:
        return time.replace(minute=0, second=0, microsecond=0) if key == "item_id" else time

    if one[key] is None:
        return None, None, None
    others = [other for other in made if other[key] == one[key]]
    predictions = sum(start(other["at"]) < start(one["at"]) for other in others)
    said = [other["label"] for other in others if start(other["labelled_at"]) < start(one["at"])]
    if not predictions and not said:
        return None, None, None
    return predictions, len(said), said.count("yes")


def test_they_are_those_as_of_each_example_or_those_that_were_served(
    either: Engine, engine: Engine, log: EventLog
) -> None:
    set_policies(engine, positive_label="yes")
    made = requests(3)
    with FeatureReader(either, "entities_v1") as reader:
        served = {name: 7 if name.endswith("labels_30d") else None for name in reader.names}
        for number, one in enumerate(made):
            event = {key: one[key] for key in ("request_id", *KEYS)}
            event |= {"model": "m", "event_time": one["at"].isoformat(), "prediction": "yes"}
            if number % 10 == 9:
                event["features"] = served
            log.append("inference", [parse("inference", event)])
        for one in sorted(made, key=lambda one: one["labelled_at"]):
            said = {"request_id": one["request_id"], "label": one["label"]}
            said["event_time"] = one["labelled_at"].isoformat()
            log.append("feedback", [parse("feedback", said)])
        rows = compile_dataset(either, claimed(engine, "m", 1), reader).rows
    assert [row.request_id for row in rows] == [one["request_id"] for one in made]
    for number, (one, row) in enumerate(zip(made, rows, strict=True)):
        features = row.example.features
        if number % 10 == 9:
            assert features == served
            continue
        for key in KEYS:
            view = key.removesuffix("_id") + "_features"
            names = ("predictions_30d", "labels_30d", "positives_30d")
            found = tuple(features[f"{view}__{name}"] for name in names)
            assert found == known(made, key, one), (one, key)

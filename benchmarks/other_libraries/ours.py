"""What Headrace's views say of the data sets, sent to it as events."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks.load import send
from benchmarks.other_libraries.data import LABELS_AN_HOUR
from benchmarks.stream import START
from headrace.deploy import ready_engine
from headrace.engine import Engine
from headrace.events.contract import Event, Feedback, Inference, Topic
from headrace.events.log import EventLog
from headrace.settings import Settings

CHUNK = 1_000
WINDOW, CURRENT_FROM = timedelta(minutes=30), timedelta(minutes=120)
COMPARED = timedelta(minutes=1)


def measure(sets: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of the views, by set; `page_hinkley` is the label at which it alarms."""
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        ready_engine(Settings(home=Path(folder) / ".headrace")) as engine,
    ):
        with EventLog(engine) as log:
            for topic in ("inference", "feedback"):
                events = [event for of, event in _events(sets) if of == topic]
                for at in range(0, len(events), CHUNK):
                    send(log, [(topic, events[at : at + CHUNK])])
        return _views(engine)


def _views(engine: Engine) -> dict[str, Any]:
    drift = engine.rows("select * from headrace.feature_drift")
    since = {
        row["model"]: row["drifted_since"]
        for row in engine.rows("select * from headrace.concept_drift")
    }
    latencies = {
        row["model"]: [row[f"latency_p{share}_ms"] for share in (50, 95, 99)]
        for row in engine.rows(
            "select * from headrace.model_performance "
            "where window_name = '1 hour' and latency_p50_ms is not null"
        )
    }
    return {
        **{
            name: {row["feature"]: row for row in drift if row["model"] == name}
            for name in ("numbers", "categories")
        },
        "quantiles": latencies["numbers"],
        "one to ten": latencies["one to ten"],
        "page_hinkley": {
            model: at and (1 + (at - START) // timedelta(hours=1)) * LABELS_AN_HOUR
            for model, at in since.items()
            if model in ("rise", "fall")
        },
        "arms": {
            row["target_policy"].removeprefix("always "): row
            for row in engine.rows("select * from headrace.policy_value where model = 'arms'")
        },
        "comparisons": {
            row["model_version"]: row["strength"]
            for row in engine.rows("select * from headrace.preference_winrate")
        },
    }


def _events(sets: dict[str, Any]) -> Iterator[tuple[Topic, Event]]:
    for model in ("numbers", "categories"):
        for side, since in (("reference", timedelta(0)), ("current", CURRENT_FROM)):
            columns = sets[model][side]
            rows = [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]
            for number, row in enumerate(rows):
                yield (
                    "inference",
                    Inference(
                        model=model,
                        request_id=f"{model} {side} {number}",
                        event_time=START + since + number / len(rows) * WINDOW,
                        features=row,
                        latency_ms=row["heavy"]
                        if (model, side) == ("numbers", "current")
                        else None,
                    ),
                )
    for number in range(1, 11):
        yield "inference", Inference(
            model="one to ten", request_id=f"one to ten {number}", event_time=START,
            latency_ms=number,
        )  # fmt: skip
    for model, errors in (("rise", sets["errors"]), ("fall", sets["errors"][::-1])):
        for number, wrong in enumerate(errors):
            yield from _answered(
                model, number, timedelta(hours=1) / LABELS_AN_HOUR, "label",
                label="bad" if wrong else "good", prediction="good",
            )  # fmt: skip
    for number, (arm, reward, propensity) in enumerate(zip(*sets["arms"].values(), strict=True)):
        yield from _answered(
            "arms", number, timedelta(minutes=1), "click",
            value=reward, prediction=arm, propensity=propensity,
        )  # fmt: skip
    for number, pair in enumerate(sets["comparisons"]):
        for version in pair:
            yield (
                "inference",
                Inference(
                    model="comparisons",
                    model_version=version,
                    request_id=f"{version} {number}",
                    event_time=START + number * COMPARED,
                ),
            )
        yield (
            "feedback",
            Feedback(
                request_id=f"{pair[0]} {number}",
                rejected_request_id=f"{pair[1]} {number}",
                feedback_id=f"comparisons {number}",
                event_time=START + number * COMPARED,
                kind="preference",
            ),
        )


def _answered(
    model: str, number: int, apart: timedelta, kind: Any, *, label: Any = None, value: Any = None,
    **asked: Any,
) -> Iterator[tuple[Topic, Event]]:  # fmt: skip
    name, moment = f"{model} {number}", START + number * apart
    yield "inference", Inference(model=model, request_id=name, event_time=moment, **asked)
    yield (
        "feedback",
        Feedback(
            request_id=name,
            feedback_id=name,
            event_time=moment,
            kind=kind,
            label=label,
            value=value,
        ),
    )

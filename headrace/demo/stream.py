"""The vulnerability reports of data/cve_triage_12k.csv.gz, as steps to replay."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import datetime

from headrace.demo.replay import Step
from headrace.settings import project_path

MODEL = "cve-triage"
POSITIVE = "total"


def reports() -> list[dict[str, str]]:
    """Return the rows of the file, in order of publication."""
    path = project_path("data") / "cve_triage_12k.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def steps(rows: list[dict[str, str]]) -> list[Step]:
    """Return every event of these reports in the order in which they happened.

    The model reads a report when it is published; an analyst's decision on its technical
    impact is the feedback, and a later decision is feedback that corrects it.
    """
    return sorted(_steps(rows), key=lambda step: step.time)


def _steps(rows: list[dict[str, str]]) -> Iterator[Step]:
    for row in rows:
        request_id = row["request_id"]
        yield Step(
            _time(row["ts"]),
            "predict",
            {
                "request_id": request_id,
                "event_time": row["ts"],
                "segment": row["source"],
                "input": row["text"],
                "features": {"source": row["source"], "characters": len(row["text"])},
            },
        )
        yield _decision(request_id, "decision", row["feedback_ts"], row["technical_impact"])
        if row["revised_ts"]:
            yield _decision(
                request_id, "revision", row["revised_ts"], row["revised_technical_impact"]
            )


def _decision(request_id: str, which: str, time: str, label: str) -> Step:
    return Step(
        _time(time),
        "feedback",
        {
            "feedback_id": f"{request_id}/{which}",
            "request_id": request_id,
            "event_time": time,
            "kind": "correction" if which == "revision" else "label",
            "label": label,
            "source": "human",
        },
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)

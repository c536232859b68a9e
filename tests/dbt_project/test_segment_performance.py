"""Performance by segment, against scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score

from headrace.engine import Engine
from headrace.events.contract import Event, Topic, parse
from headrace.events.log import EventLog
from tests.support.oracle import score_bin
from tests.support.stored import empty
from tests.support.streams import START, send

ROWS = 3_000


def test_a_segment_that_suffers_is_seen(engine: Engine, log: EventLog) -> None:
    empty(engine)
    random = np.random.default_rng(3)
    segments = random.choice(["a", "b", "c", ""], ROWS, p=[0.5, 0.3, 0.1, 0.1])
    logits = random.normal(0, 1.5, ROWS)
    scores = 1 / (1 + np.exp(-logits))
    # In segment b the score says little.
    true = random.random(ROWS) < 1 / (1 + np.exp(-logits * np.where(segments == "b", 0.2, 1)))
    send(log, [*events(segments, scores, true)])
    rows = engine.rows("select * from headrace.segment_performance")
    found = {row["segment"]: row for row in rows}
    assert found.keys() == {"a", "b", "c"}
    for name, row in found.items():
        of = segments == name
        y, p = true[of], scores[of]
        assert (row["labeled"], row["positives"], row["segments"]) == (of.sum(), y.sum(), 3)
        assert row["accuracy"] == pytest.approx(accuracy_score(y, p >= 0.5))
        assert row["f1"] == pytest.approx(f1_score(y, p >= 0.5))
        assert row["auc"] == pytest.approx(roc_auc_score(y, [score_bin(score) for score in p]))
        assert row["log_loss"] == pytest.approx(log_loss(y, p), abs=1e-5)
        assert row["brier"] == pytest.approx(brier_score_loss(y, p), abs=1e-5)
        assert (row["model_version"], row["rmse"]) == (None, None)
    lost = found["a"]["auc"] - found["b"]["auc"]
    assert lost > 5 * np.hypot(found["a"]["auc_stderr"], found["b"]["auc_stderr"])


def events(segments: Any, scores: Any, true: Any) -> Iterator[tuple[Topic, Event]]:
    for place, (segment, score, came) in enumerate(
        zip(segments.tolist(), scores.tolist(), true.tolist(), strict=True)
    ):
        row = {
            "model": "m", "request_id": f"r{place}",
            "event_time": (START + timedelta(minutes=place)).isoformat(),
        }  # fmt: skip
        said = {
            **row, "segment": segment or None, "score": score, "model_version": f"v{place % 2}",
            "prediction": "yes" if score >= 0.5 else "no",
        }  # fmt: skip
        told: list[tuple[Topic, Event]] = [
            ("inference", parse("inference", said)),
            ("feedback", parse("feedback", {**row, "label": "yes" if came else "no"})),
        ]
        yield from told

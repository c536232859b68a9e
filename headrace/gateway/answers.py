"""What a version answers, checked: a prediction, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headrace.control.plan import Served
from headrace.errors import ModelError
from headrace.events.labels import label_text
from headrace.gateway.versions import LoadedVersion


@dataclass(frozen=True)
class Prediction:
    """What one version predicted for one request.

    `features` are those of the request and those that were looked up, `known_at` says where
    (`headrace.gateway.features.Given`). `scores` are the probabilities by label, of a
    classification, and `score` is that of `positive`, or of `label` where there is none. `took_ms`
    is how long the batch took until the answer, which was there at `answered_at`
    (`time.perf_counter`). `passes` are probabilities (d, labels) from
    passes with dropout, in the order of `scores`, where such were asked for and the version can.
    `propensity` is there where the label was chosen by exploration.
    """

    version: Served
    features: Mapping[str, Any]
    label: str | None
    score: float | None
    scores: dict[str, float] | None = None
    positive: str | None = None
    took_ms: float = 0.0
    passes: NDArray[np.float64] | None = None
    propensity: float | None = None
    known_at: Mapping[str, datetime | None] | None = None
    answered_at: float = 0.0


class PredictionError(ModelError):
    """`version` has no answer to a request. The text says why."""

    def __init__(self, version: Served, reason: object) -> None:
        super().__init__(f"the model failed: {reason}")
        self.version = version


def prediction(
    version: LoadedVersion, features: Mapping[str, Any], answer: Any, took_ms: float = 0.0
) -> Prediction:
    """Turn a row of a predictor's answers into a prediction.

    Raises:
        ModelError: a number in it is not finite.
    """
    task = version.manifest.task
    if task == "generation":
        return Prediction(version.row, features, str(answer), None, took_ms=took_ms)
    if task != "classification":
        value = float(answer)
        if not math.isfinite(value):
            raise ModelError(f"the answer must be a finite number, got {value}")
        said = label_text(value) if task == "regression" else None
        return Prediction(version.row, features, said, value, took_ms=took_ms)
    scores = dict.fromkeys(version.labels, 0.0)
    for label, p in zip(version.labels, answer, strict=True):
        if not math.isfinite(p):
            raise ModelError(f"a probability must be a finite number, got {p}")
        scores[label] = min(max(scores[label] + float(p), 0.0), 1.0)
    best = max(scores, key=scores.__getitem__)
    score = scores[best if version.positive is None else version.positive]
    return Prediction(version.row, features, best, score, scores, version.positive, took_ms)

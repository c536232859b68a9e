"""The measurements of the demo, as data; light to import."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CONTESTANTS = {
    "loop": "Headrace, the loop",
    "frozen": "the first model, frozen",
    "tfidf_loop": "TF-IDF + logistic regression, refitted with each version",
    "tfidf_frozen": "TF-IDF + logistic regression, frozen",
}


@dataclass(frozen=True)
class Score:
    """Quality of predictions made before their labels, all on the same reports."""

    auc: float
    f1: float
    log_loss: float


@dataclass(frozen=True)
class Summary:
    """Everything that the demo measured; written to summary.json."""

    reports: int
    evaluated: int
    first_version: str
    scores: dict[str, Score]
    monthly: dict[str, dict[str, float]]
    versions: list[dict[str, Any]]
    latency_s: dict[str, float]
    seconds: float

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n")

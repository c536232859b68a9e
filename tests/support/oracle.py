"""Every view once more, naively: plain Python over all events, with no panes and no SQL."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sklearn.metrics import (
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from headrace.events.contract import Feedback, Inference
from tests.support.label_oracle import REWARDS, SILENT, LabelOracle, Silence, number, utc

DAY = 86400
# length, step, and how long behind the clock they are kept, in seconds
WINDOWS = {
    "1 minute": (60, 60, 2 * DAY),
    "5 minutes": (300, 60, 2 * DAY),
    "1 hour": (3600, 3600, 400 * DAY),
    "1 day": (DAY, DAY, 400 * DAY),
    "30 days": (30 * DAY, DAY, 400 * DAY),
}
Row = dict[str, Any]
Grain = Callable[[datetime], datetime]


class Oracle(LabelOracle):
    """What the views should hold after these events (of each id the first)."""

    def __init__(
        self,
        inference: dict[str, Inference],
        feedback: dict[str, Feedback],
        positive: str = "yes",
        policies: Mapping[str, tuple[str, int, float]] | None = None,
        silence: Mapping[str, Silence] | None = None,
    ) -> None:
        super().__init__(inference, feedback, policies, silence)
        self.positive = positive
        self.tasks = {model: self._task(model) for model in {e.model for e in inference.values()}}

    def _task(self, model: str) -> str | None:
        """What a model does, by what came."""
        inferences = self.of(model)
        held = [
            self.settled[event.request_id]
            for event in inferences
            if event.request_id in self.settled and event.variant != "shadow"
        ]
        labels = [each.label for each in held if each.kind not in (*REWARDS, SILENT)]
        predictions = [str(e.prediction) for e in inferences if e.prediction is not None]
        measures = [x for x in labels + predictions if is_measure(x)]
        kinds = [
            event.kind
            for event in self.feedback.values()
            if event.request_id in self.inference
            and self.inference[event.request_id].model == model
        ]
        is_measured = 2 * len(measures) > len(labels) + len(predictions)
        has_outputs = any(event.output is not None for event in inferences)
        is_free = has_outputs and not predictions and all(e.score is None for e in inferences)
        if labels and not is_measured:
            return "generation" if is_free else "classification"
        if labels:
            return "regression"
        if is_free and any(kind in (*REWARDS, "preference") for kind in kinds):
            return "generation"
        if any(kind in REWARDS for kind in kinds):
            return "reward"
        if "preference" in kinds:
            return "preference"
        if predictions:
            return "regression" if is_measured else "classification"
        return "generation" if has_outputs else None

    def positive_of(self, model: str) -> str:
        return "1" if self.tasks[model] == "reward" else self.positive

    def kind(self, event: Inference) -> str:
        """The kind of the label of a prediction."""
        held = self.labels.get(event.request_id)
        return held.kind if held else SILENT

    def judged(self, event: Inference, label: str | None) -> tuple[str | None, str | None]:
        """Label and prediction as they count for the model's task."""
        task, kind = self.tasks[event.model], self.kind(event)
        if task == "reward":
            return (label if label in ("0", "1") else None), None
        if task not in (None, "classification"):
            return None, None
        said = None if kind in REWARDS else as_class(label)
        return said, as_class(event.prediction)

    def labeled_examples(self) -> set[tuple[Any, ...]]:
        return {
            (
                request_id,
                held.event.feedback_id if held.event else None,
                held.label,
                held.known_at,
            )
            for request_id, held in self.labels.items()
        }

    def pending_labels(self, window: timedelta = timedelta(0)) -> set[str]:
        """Predictions without a label whose label window is open; a window of 0 never closes."""
        return {
            request_id
            for request_id, event in self.inference.items()
            if request_id not in self.labels
            and event.variant != "shadow"
            and (not window or utc(event.event_time) + window > self.clock(event.model))
        }

    def orphan_feedback(self) -> set[str]:
        return {
            event.feedback_id
            for event in self.feedback.values()
            if event.request_id not in self.inference
        }

    def is_serving(self, model: str, version: str, window: timedelta) -> bool:
        """Whether the version's last prediction is within a window behind the last one of all."""
        inferences = [event for event in self.of(model) if event.variant != "shadow"]
        own = [utc(event.event_time) for event in inferences if event.model_version == version]
        return bool(own) and max(own) >= max(utc(e.event_time) for e in inferences) - window

    def performance(
        self, windows: Mapping[str, tuple[int, int, int]] = WINDOWS
    ) -> dict[tuple[Any, ...], Row]:
        """Rows of model_performance by (window_name, window_end, model, version, variant)."""
        members: dict[tuple[Any, ...], list[Inference]] = defaultdict(list)
        clocks = {event.model: self.clock(event.model) for event in self.inference.values()}
        first = {
            model: min(utc(event.event_time).timestamp() for event in self.of(model))
            for model in clocks
        }
        for event in self.inference.values():
            clock = math.floor(clocks[event.model].timestamp())
            seconds = utc(event.event_time).timestamp()
            for name, (length, step, kept) in windows.items():
                end = math.floor(seconds / step) * step + step
                while end - length <= seconds and end <= clock // step * step + step:
                    horizon = clock // 3600 * 3600 - kept
                    if end - length >= horizon or first[event.model] >= horizon:
                        key = (name, datetime.fromtimestamp(end, UTC), event.model)
                        members[(*key, event.model_version, event.variant)].append(event)
                    end += step
        return {key: self.quality(events) for key, events in members.items()}

    def quality(self, events: list[Inference]) -> Row:
        """Metrics of predictions by their labels."""
        known = {
            e.request_id: self.settled[e.request_id].label
            for e in events
            if e.request_id in self.settled
        }
        judged = [event for event in events if event.request_id in known]
        truth = {e.request_id: self.judged(e, known[e.request_id]) for e in judged}
        positive = self.positive_of(events[0].model)
        scored = [e for e in judged if e.score is not None and truth[e.request_id][0] is not None]
        predicted = [event for event in judged if None not in truth[event.request_id]]
        y = np.array([truth[event.request_id][0] == positive for event in scored], dtype=int)
        p = np.array([event.score for event in scored], dtype=float)
        labels = [str(truth[event.request_id][0]) for event in predicted]
        predictions = [str(truth[event.request_id][1]) for event in predicted]
        called = [prediction == positive for prediction in predictions]
        right = [label == positive for label in labels]
        errors = [
            number(event.prediction) - number(known[event.request_id])
            for event in judged
            if self.tasks[event.model] == "regression" and self.kind(event) not in REWARDS
            if number(event.prediction) is not None and number(known[event.request_id]) is not None
        ]
        latencies = [event.latency_ms for event in events if event.latency_ms is not None]
        both = len(set(y)) == 2
        chances = [
            (str(truth[e.request_id][0]), probabilities_of(e))
            for e in judged
            if truth[e.request_id][0] is not None and len(e.probabilities or {}) in range(3, 101)
        ]
        if self.tasks[events[0].model] != "classification":
            chances = []
        return {
            "macro_auc": macro_auc(chances, score_bin),
            "exact_macro_auc": macro_auc(chances, float),
            "inferences": len(events),
            "errors": sum(event.error is not None for event in events),
            "mean_score": mean(event.score for event in events if event.score is not None),
            "latency_p50_ms": quantile(latencies, 0.50),
            "latency_p95_ms": quantile(latencies, 0.95),
            "latency_p99_ms": quantile(latencies, 0.99),
            "labeled": len(judged),
            "positives": sum(label == positive for label, _ in truth.values()),
            "accuracy": mean(a == b for a, b in zip(predictions, labels, strict=True)),
            "precision": precision_score(right, called) if any(called) else None,
            "recall": recall_score(right, called) if any(right) else None,
            "f1": f1_score(right, called) if any(right) or any(called) else None,
            "macro_f1": f1_score(labels, predictions, average="macro") if predictions else None,
            "auc": roc_auc_score(y, [score_bin(score) for score in p]) if both else None,
            "exact_auc": roc_auc_score(y, p) if both else None,
            "log_loss": log_loss(y, np.clip(p, 1e-6, 1 - 1e-6), labels=[0, 1]) if len(y) else None,
            "brier": mean((y - p) ** 2),
            "calibration_error": calibration_error(y, p) if len(y) else None,
            "rmse": math.sqrt(sum(e * e for e in errors) / len(errors)) if errors else None,
            "mae": mean(abs(e) for e in errors),
            "mean_reward": mean(self.reward(event) for event in judged),
        }

    def reward(self, event: Inference) -> float:
        """Value of the rewards, else of the label; without one whether the prediction was right."""
        held = self.labels[event.request_id]
        held = held.rewards or held
        worth = float(event.prediction == held.label) if held.worth is None else float(held.worth)
        return held.weight * worth


def bucket(x: float) -> int:
    if x == 0:
        return 0
    size = 50000 + math.ceil(math.log(abs(x)) / math.log(1.0202020202020203))
    return size if x > 0 else -size


def score_bin(score: float) -> int:
    """One of 256 bins: 64 growing ones below 0.1, 128 equal ones, the first 64 mirrored."""

    def tail(x: float) -> int:
        return min(63, 1 + math.floor(math.log(x / 0.0001) / (math.log(1000) / 63)))

    if score < 0.0001:
        return 0
    if score < 0.1:
        return tail(score)
    if score < 0.9:
        return min(191, 64 + math.floor((score - 0.1) * 160))
    return 255 - tail(1 - score) if score < 0.9999 else 255


def probabilities_of(event: Inference) -> dict[str, float]:
    """Probabilities by class; of two spellings of one class the greater."""
    found: dict[str, float] = {}
    for name, chance in (event.probabilities or {}).items():
        if (one := as_class(name)) is not None:
            found[one] = max(chance, found.get(one, 0.0))
    return found


def class_auc(
    chances: list[tuple[str, dict[str, float]]], one: str, value: Callable[[float], float]
) -> float | None:
    """AUC of a class against the rest; a class without a probability has 0."""
    y = [label == one for label, _ in chances]
    if len(set(y)) < 2:
        return None
    return float(roc_auc_score(y, [value(p.get(one, 0.0)) for _, p in chances]))


def macro_auc(
    chances: list[tuple[str, dict[str, float]]], value: Callable[[float], float]
) -> float | None:
    """Mean over the classes that are labels of (label, probabilities) of each prediction."""
    areas = [class_auc(chances, one, value) for one in {label for label, _ in chances}]
    return mean(area for area in areas if area is not None)


def calibration_error(y: Any, p: Any) -> float:
    """Expected calibration error over tenths of the score, by its definition."""
    tenths = np.minimum(np.floor(p * 10), 9)
    gaps = [abs(y[tenths == t].sum() - p[tenths == t].sum()) for t in set(tenths)]
    return float(sum(gaps)) / len(y)


def as_class(text: Any) -> str | None:
    """A label that names a class: short, or no number and of at most 64 characters."""
    if text is None or len(text) > 64:
        return None
    if len(text) > 3 and number(text) is not None:
        return None
    folded = str(text).lower()
    return {"true": "1", "false": "0"}.get(folded, folded)


def is_measure(text: str) -> bool:
    return as_class(text) is None and number(text) is not None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def mean(values: Iterable[Any]) -> float | None:
    numbers = [float(value) for value in values]
    return sum(numbers) / len(numbers) if numbers else None


def quantile(values: list[float], q: float) -> float | None:
    """The smallest value that a share q of all values does not exceed."""
    if not values:
        return None
    return sorted(values)[math.ceil(q * len(values)) - 1]


def minute(time: datetime) -> datetime:
    return time.replace(second=0, microsecond=0)


def hour(time: datetime) -> datetime:
    return time.replace(minute=0, second=0, microsecond=0)

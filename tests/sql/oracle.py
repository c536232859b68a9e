"""Every view once more, naively: plain Python over all events, with no panes and no SQL."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sklearn.metrics import f1_score, log_loss, roc_auc_score

from headrace.events import Feedback, Inference

WINDOWS = {
    "1 minute": (60, 60),
    "5 minutes": (300, 10),
    "1 hour": (3600, 3600),
    "1 day": (86400, 86400),
    "30 days": (2592000, 86400),
}
UNLABELED = ("preference", "report", "comment")
Row = dict[str, Any]


class Oracle:
    """What the views should hold after these events (of each id the first)."""

    def __init__(
        self,
        inference: dict[str, Inference],
        feedback: dict[str, Feedback],
        positive: str = "yes",
        drift_window: timedelta = timedelta(hours=1),
    ) -> None:
        self.inference = inference
        self.feedback = feedback
        self.positive = positive
        self.drift_window = drift_window
        self.labels = self._labels()

    def _labels(self) -> dict[str, Feedback]:
        latest: dict[str, Feedback] = {}
        for event in self.feedback.values():
            if event.request_id not in self.inference or label_of(event) is None:
                continue
            held = latest.get(event.request_id)
            if held is None or (event.event_time, event.feedback_id) > (
                held.event_time,
                held.feedback_id,
            ):
                latest[event.request_id] = event
        return latest

    def labeled_examples(self) -> set[tuple[Any, ...]]:
        return {
            (
                request_id,
                event.feedback_id,
                label_of(event),
                max(utc(event.event_time), utc(self.inference[request_id].event_time)),
            )
            for request_id, event in self.labels.items()
        }

    def pending_labels(self) -> set[str]:
        return set(self.inference) - set(self.labels)

    def orphan_feedback(self) -> set[str]:
        return {
            event.feedback_id
            for event in self.feedback.values()
            if event.request_id not in self.inference
        }

    def clock(self, model: str) -> datetime:
        times = [utc(event.event_time) for event in self.of(model)]
        times += [
            utc(event.event_time)
            for event in self.feedback.values()
            if event.request_id in self.inference
            and self.inference[event.request_id].model == model
        ]
        return max(times)

    def of(self, model: str) -> list[Inference]:
        return [event for event in self.inference.values() if event.model == model]

    def performance(self) -> dict[tuple[Any, ...], Row]:
        """Rows of model_performance by (window_name, window_end, model, version, variant)."""
        members: dict[tuple[Any, ...], list[Inference]] = defaultdict(list)
        for event in self.inference.values():
            for name, (length, step) in WINDOWS.items():
                seconds = utc(event.event_time).timestamp()
                end = math.floor(seconds / step) * step + step
                while end - length <= seconds:
                    key = (name, datetime.fromtimestamp(end, UTC), event.model)
                    members[(*key, event.model_version, event.variant)].append(event)
                    end += step
        return {key: self._quality(events) for key, events in members.items()}

    def _quality(self, events: list[Inference]) -> Row:
        judged = [event for event in events if event.request_id in self.labels]
        truth = {event.request_id: label_of(self.labels[event.request_id]) for event in judged}
        scored = [event for event in judged if event.score is not None]
        predicted = [event for event in judged if event.prediction is not None]
        y = np.array([truth[event.request_id] == self.positive for event in scored], dtype=int)
        p = np.array([event.score for event in scored], dtype=float)
        called = [event.prediction == self.positive for event in predicted]
        right = [truth[event.request_id] == self.positive for event in predicted]
        latencies = [event.latency_ms for event in events if event.latency_ms is not None]
        both = len(set(y)) == 2
        return {
            "inferences": len(events),
            "errors": sum(event.error is not None for event in events),
            "mean_score": mean(event.score for event in events if event.score is not None),
            "latency_p50_ms": quantile(latencies, 0.50),
            "latency_p95_ms": quantile(latencies, 0.95),
            "labeled": len(judged),
            "positives": sum(label == self.positive for label in truth.values()),
            "accuracy": mean(event.prediction == truth[event.request_id] for event in predicted),
            "f1": f1_score(right, called) if any(right) or any(called) else None,
            "auc": roc_auc_score(y, np.minimum(np.floor(p * 1000), 999)) if both else None,
            "exact_auc": roc_auc_score(y, p) if both else None,
            "log_loss": log_loss(y, np.clip(p, 1e-6, 1 - 1e-6), labels=[0, 1]) if len(y) else None,
            "brier": mean((y - p) ** 2),
        }

    def psi(self) -> dict[tuple[str, str], float]:
        """The population stability index of every feature of every model."""
        result: dict[tuple[str, str], float] = {}
        for model in {event.model for event in self.inference.values()}:
            events = self.of(model)
            first = min(utc(event.event_time) for event in events)
            start = minute(self.clock(model) - self.drift_window)
            reference = self._values(events, datetime.min, first + self.drift_window)
            after = minute(first + self.drift_window) + timedelta(minutes=1)
            current = self._values(events, max(start, after), datetime.max)
            for feature in reference.keys() | current.keys():
                old, new = reference.get(feature, []), current.get(feature, [])
                if old or new:
                    result[model, feature] = psi(old, new)
        return result

    def _values(
        self, events: Iterable[Inference], start: datetime, end: datetime
    ) -> dict[str, list[Any]]:
        values: dict[str, list[Any]] = defaultdict(list)
        for event in events:
            time = minute(utc(event.event_time))
            if start.replace(tzinfo=UTC) <= time <= end.replace(tzinfo=UTC):
                for name, value in event.features.items():
                    values[name].append(value)
        return values


def psi(reference: list[Any], current: list[Any]) -> float:
    numbers = sorted(bucket(v) for v in reference if is_number(v))

    def place(value: Any) -> str:
        if value is None:
            return "missing"
        if not is_number(value):
            text = value if isinstance(value, str) else str(value).lower()
            return f"category {text[:100]}"
        if not numbers:
            return "decile 9"
        below = sum(number < bucket(value) for number in numbers)
        return f"decile {min(10 * below // len(numbers), 9)}"

    old, new = Counter(map(place, reference)), Counter(map(place, current))
    bins = old.keys() | new.keys()
    total = 0.0
    for name in bins:
        a = (old[name] + 0.5) / (len(reference) + 0.5 * len(bins))
        b = (new[name] + 0.5) / (len(current) + 0.5 * len(bins))
        total += (b - a) * math.log(b / a)
    return total


def bucket(x: float) -> int:
    if x == 0:
        return 0
    size = 50000 + math.ceil(math.log(abs(x)) / math.log(1.0202020202020203))
    return size if x > 0 else -size


def label_of(event: Feedback) -> str | None:
    if event.kind in UNLABELED:
        return None
    if event.label is not None:
        return str(event.label)
    return None if event.value is None else f"{event.value:g}"


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


def utc(time: datetime | None) -> datetime:
    assert time is not None
    return time.astimezone(UTC)

"""The view data_quality once more, naively: plain Python and all events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from headrace.events.contract import Inference
from tests.support.distances import text_of
from tests.support.drift_oracle import DAY, HOUR, DriftOracle, at, share
from tests.support.label_oracle import REWARDS
from tests.support.oracle import Row, as_class, bucket, hour, is_number


class QualityOracle(DriftOracle):
    """What data_quality should hold too, by model, check and feature."""

    def data_quality(self) -> dict[tuple[str, str, str], Row]:
        rows: dict[tuple[str, str, str], Row] = {}
        for model in self.models:
            clock, events = self.oracle.clock(model), self.predictions(model)
            if not events:
                continue
            old, new = self._sides(model, events, clock)
            if old or new:
                failed, fail = ([e.error is not None for e in side] for side in (old, new))
                rows[model, "error_rate", ""] = self._check("error_rate", failed, fail)
            for name in {name for event in old + new for name in event.features}:
                for check, *compared in feature_checks(name, old, new):
                    rows[model, check, name] = self._check(check, *compared)
            found = self.samples(model)
            first = min(map(at, events))
            first = max(first, found.first) if found else first
            silence = longest_silence(events, first, clock, self.policies.volume_gap)
            limit = self.policies.volume_gap.total_seconds()
            status = "alert" if silence >= limit else "ok"
            rows[model, "volume_gap", ""] = {"current_value": silence, "status": status}
            for check, strange in self._class_checks(model, events, clock):
                few = len(strange) < self.policies.min_sample
                status = "too few rows" if few else "alert" if all(strange) else "ok"
                current = {"current_value": share(sum(strange), len(strange)), "status": status}
                rows[model, check, ""] = {**current, "current_rows": len(strange)}
        return rows

    def _class_checks(
        self, model: str, events: list[Inference], clock: datetime
    ) -> Iterator[tuple[str, list[bool]]]:
        """Yield check and whether each label, or its prediction, is strange to the other side."""
        held = self.oracle.settled
        predicted = {as_class(event.prediction) for event in self.oracle.of(model)}
        labels = {as_class(held[e.request_id].label) for e in events if e.request_id in held}
        since = hour(clock - self.policies.metric_window)
        pairs = [
            (as_class(held[event.request_id].label), as_class(event.prediction))
            for event in events
            if event.request_id in held
            and held[event.request_id].kind not in REWARDS
            and (settled_at := held[event.request_id].settled_at)
            and hour(settled_at) >= since
        ]
        if pairs := [pair for pair in pairs if None not in pair]:
            yield "label_never_predicted", [label not in predicted for label, _ in pairs]
            yield "prediction_never_label", [said not in labels for _, said in pairs]

    def _check(
        self, check: str, old: list[bool], new: list[bool], expected: float | None = None
    ) -> Row:
        """Compare two lists of whether each value is bad."""
        before = share(sum(old), len(old)) if expected is None else expected
        now = share(sum(new), len(new))
        policies = self.policies
        small = len(new) < policies.min_sample
        if check != "error_rate":
            small = small or len(old) < policies.min_sample
        if before is None or now is None:
            bad = check == "error_rate" and now is not None and now > policies.max_error_rate
        else:
            bad = {
                "error_rate": now > policies.max_error_rate,
                "new_feature": before == 0,
                "missing_feature": now == 0,
            }.get(check, now > before and now - before >= policies.quality_tolerance)
        status = "too few rows" if small else "alert" if bad else "ok"
        row = {"reference_value": before, "current_value": now, "status": status}
        return {**row, "reference_rows": len(old), "current_rows": len(new)}


def feature_checks(name: str, old: list[Inference], new: list[Inference]) -> Iterator[Any]:
    """Yield check, then for the values of both sides whether they are bad, for one feature."""
    sides = old, new
    carried = [[name in event.features for event in side] for side in sides]
    values: list[list[Any]] = [[event.features.get(name) for event in side] for side in sides]
    yield "null_rate", *([value is None for value in side] for side in values)
    if any(carried[1]):
        yield "new_feature", *carried
    if any(carried[0]):
        yield "missing_feature", *carried
    given = [[value for value in side if value is not None] for side in values]
    types = [[type_of(value) for value in side] for side in given]
    if given[0]:
        main = min(set(types[0]), key=lambda t: (-types[0].count(t), t))
        yield "type_change", *([found != main for found in side] for side in types)
    numbers = [[bucket(value) for value in side if is_number(value)] for side in given]
    if numbers[0]:
        low, high = min(numbers[0]), max(numbers[0])
        yield "out_of_range", *([not low <= x <= high for x in side] for side in numbers)
    words = [[text_of(value) for value in side if not is_number(value)] for side in given]
    if words[0]:
        once = sum(count == 1 for count in Counter(words[0]).values()) / len(words[0])
        unseen = [word not in words[0] for word in words[1]]
        yield "unseen_category", [False] * len(words[0]), unseen, once


def longest_silence(
    events: list[Inference], first: datetime, clock: datetime, gap: timedelta
) -> float:
    since = max(first, clock - min(max(gap, HOUR), 2 * DAY))
    ten = timedelta(seconds=10)
    ends = [since]
    silences = [0.0]
    for start in sorted({ten_seconds(at(e)) for e in events if at(e) >= ten_seconds(since)}):
        silences.append((start - ends[-1]).total_seconds())
        ends.append(start + ten)
    return max(*silences, (clock - ends[-1]).total_seconds())


def type_of(value: Any) -> str:
    return "number" if is_number(value) else "boolean" if isinstance(value, bool) else "string"


def ten_seconds(time: datetime) -> datetime:
    return time.replace(second=time.second // 10 * 10, microsecond=0)

"""The views of drift once more, naively: plain Python, SciPy and all events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from scipy import stats

from headrace.events.contract import Inference
from tests.support.concept_oracle import concept_drift
from tests.support.distances import distances, feature_distances, ks_p_value, number_bins
from tests.support.hourly_errors import by_hour
from tests.support.label_oracle import REWARDS, Silence, number, utc
from tests.support.oracle import Oracle, Row, as_class, hour, minute, score_bin
from tests.support.samples import MONTH, Samples, began, samples, window_from

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class Policies:
    """What these views read; the statistics' thresholds hit no sum of the drawn errors."""

    min_sample: int = 2
    drift_window: timedelta = HOUR
    metric_window: timedelta = DAY
    drift_alpha: float = 0.3
    psi_alert: float = 0.25
    psi_halt: float = 1.0
    page_hinkley_delta: float = 0.0173
    page_hinkley_threshold: float = 0.1371
    quality_tolerance: float = 0.1
    volume_gap: timedelta = timedelta(minutes=10)
    max_error_rate: float = 0.05
    default_label: str = ""
    label_window: timedelta = timedelta(0)

    def silence(self, *models: str) -> dict[str, Silence]:
        """By model, what silence says."""
        terms = Silence(self.default_label, self.label_window)
        return dict.fromkeys(models, terms) if self.default_label else {}


@dataclass(frozen=True)
class Champion:
    """A version that was promoted, and what it was trained on, if that is known."""

    model_version: str
    train: tuple[datetime, datetime] | None


class DriftOracle:
    """What the views should hold after the events of `oracle`, by model."""

    def __init__(self, oracle: Oracle, policies: Policies, champions: dict[str, Champion]) -> None:
        self.oracle = oracle
        self.policies = policies
        self.champions = champions
        self.models = {event.model for event in oracle.inference.values()}

    def predictions(self, model: str) -> list[Inference]:
        return [event for event in self.oracle.of(model) if event.variant != "shadow"]

    def champion(self, model: str) -> Champion | None:
        """The champion while it serves; without one all versions count as one."""
        found = self.champions.get(model)
        if found and self.oracle.is_serving(model, found.model_version, DAY):
            return found
        return None

    def known(self, model: str) -> Iterator[tuple[Inference, str, datetime]]:
        """Predictions with their labels and the hours from which on these count."""
        for event in self.predictions(model):
            if held := self.oracle.settled.get(event.request_id):
                yield event, held.label, hour(utc(held.settled_at))

    def reference(self, model: str) -> tuple[datetime, datetime]:
        champion = self.champion(model)
        if champion and champion.train:
            first, last = champion.train
            return max(first, last - MONTH), last
        found = self.samples(model)
        first = min(at(event) for event in self.oracle.of(model))
        start = began(first, self.oracle.clock(model), found)
        return start, self._baseline_end(start, found, HOUR)

    def samples(self, model: str) -> Samples | None:
        return samples(self.oracle.of(model), self.policies.min_sample)

    def _baseline_end(self, start: datetime, found: Samples | None, whole: timedelta) -> datetime:
        end = start + self.policies.drift_window
        return max(end, found.last + whole) if found else end

    def _sides(
        self, model: str, events: list[Inference], clock: datetime
    ) -> tuple[list[Inference], list[Inference]]:
        """As feature_drift has them: whole minutes, of two days and more ago whole hours."""
        start, end = self.reference(model)
        fine_from = hour(clock) - 2 * DAY
        found = self.samples(model)
        since = window_from(clock, self.policies.drift_window, fine_from, found)
        since = min(max(since, end), clock)
        grain = self._reference_grain(model)
        last = max(hour(end - HOUR), hour(start)) if start < fine_from else end
        old = [e for e in events if grain(start) <= grain(at(e)) <= last]
        grain = hour if since < fine_from else minute
        new = [e for e in events if grain(at(e)) >= grain(since) and grain(at(e)) > end]
        return old, new

    def _reference_grain(self, model: str) -> Callable[[datetime], datetime]:
        fine_from = hour(self.oracle.clock(model)) - 2 * DAY
        return hour if self.reference(model)[0] < fine_from else minute

    # --- prediction_drift

    def prediction_drift(self) -> dict[tuple[str, str], Row]:
        rows = {}
        for model in self.models:
            clock = self.oracle.clock(model)
            since = clock - self.policies.drift_window
            versions = defaultdict(list)
            for event in self.predictions(model):
                versions[event.model_version].append(event)
            champion = self.champions.get(model)
            for version, events in versions.items():
                serves = max(map(at, events)) >= since
                if serves or (champion and champion.model_version == version):
                    rows[model, version] = self._output(events, clock)
            found = [row for (of, _), row in rows.items() if of == model]
            tests = sum(len(self._tests(row)) for row in found)
            for row in found:
                self._judge_output(row, tests)
        return rows

    def _output(self, events: list[Inference], clock: datetime) -> Row:
        policies, fine_from = self.policies, hour(clock) - 2 * DAY
        found = samples(events, policies.min_sample)
        first = began(min(map(at, events)), clock, found)
        recent = window_from(clock, policies.drift_window, fine_from, found)
        last = self._baseline_end(first, found, 59 * MINUTE)
        start, end = (
            (hour(first), hour(last) + HOUR)
            if first < fine_from
            else (minute(first), minute(last) + MINUTE)
        )
        since = max(hour(recent) if recent < fine_from else minute(recent), end)
        old = [event for event in events if start <= at(event) < end]
        new = [event for event in events if at(event) >= since]
        scores = [[e.score for e in side if e.score is not None] for side in (old, new)]
        bins = [[score_bin(score) for score in side] for side in scores]
        named = [[as_class(event.prediction) for event in side] for side in (old, new)]
        tenths, classes = distances(*number_bins(*bins)), distances(*named)
        row: Row = dict.fromkeys(("js_divergence", "ks", "ks_p_value", "wasserstein"))
        row |= {"reference_scores": len(bins[0]), "current_scores": len(bins[1])}
        if all(bins):
            row["js_divergence"] = tenths["js_divergence"]
            row["ks"] = stats.ks_2samp(*bins).statistic
            row["ks_p_value"] = ks_p_value(row["ks"], *map(len, bins))
            row["wasserstein"] = stats.wasserstein_distance(*scores)
        row["score_chi_square_p_value"] = tenths["p_value"]
        row |= {"chi_square": classes["chi_square"], "cramers_v": classes["cramers_v"]}
        row["chi_square_p_value"] = classes["p_value"]
        row |= {"reference_rows": len(old), "current_rows": len(new)}
        for name in ("psi", "psi_excess"):
            row |= {f"score_{name}": tenths[name], f"class_{name}": classes[name]}
        return row

    def _tests(self, row: Row) -> list[float]:
        """The p-values of a version's output that count."""
        found = []
        if min(row["reference_rows"], row["current_rows"]) >= self.policies.min_sample:
            found.append(row["chi_square_p_value"])
        if min(row["reference_scores"], row["current_scores"]) >= self.policies.min_sample:
            found += [row["score_chi_square_p_value"], row["ks_p_value"]]
        return [p for p in found if p is not None]

    def _judge_output(self, row: Row, tests: int) -> None:
        parts = [("class_psi", "chi_square_p_value")]
        has_scores = min(row["reference_scores"], row["current_scores"]) >= self.policies.min_sample
        if has_scores:
            parts.append(("score_psi", "score_chi_square_p_value"))
        sure = [name for name, p in parts if self._is_sure(row[p], tests)]
        row["psi"] = max_of(*(row[name] for name, _ in parts))
        excesses = sure or [name for name, _ in parts]
        row["psi_excess"] = max_of(*(row[f"{name}_excess"] for name in excesses))
        row["tests"] = tests
        is_apart = has_scores and self._is_apart(row, tests)
        row["status"] = self._status(row, bool(sure), is_apart)
        if row["status"] == "drifted" and row["psi_excess"] >= self.policies.psi_halt:
            row["status"] = "halt"

    def _is_sure(self, p_value: float | None, tests: int = 1) -> bool:
        return p_value is not None and p_value * tests < self.policies.drift_alpha

    def _is_apart(self, row: Row, tests: int) -> bool:
        return (
            row["ks"] is not None and row["ks"] >= 0.1 and self._is_sure(row["ks_p_value"], tests)
        )

    def _status(self, row: Row, is_sure: bool, is_apart: bool = False) -> str:
        rows = row["reference_rows"], row["current_rows"]
        if row["psi_excess"] is None or min(rows) < self.policies.min_sample:
            return "too few rows"
        if is_sure and row["psi_excess"] >= self.policies.psi_alert:
            return "drifted"
        if (is_sure and row["psi_excess"] >= 0.1) or is_apart:
            return "moving"
        return "stable"

    # --- feature_psi

    def feature_psi(self) -> dict[tuple[str, str], Row]:
        rows = {}
        for model in self.models:
            old, new = self._sides(model, self.predictions(model), self.oracle.clock(model))
            found = {}
            for name in {name for event in old + new for name in event.features}:
                before, now = (
                    [event.features[name] for event in side if name in event.features]
                    for side in (old, new)
                )
                grain = self._reference_grain(model)
                panes = [grain(at(event)) for event in old if name in event.features]
                found[name] = feature_distances(before, now, panes)
            judged = [row for row, is_identifier in found.values() if not is_identifier]
            tests = sum(
                row[p] is not None
                for row in judged
                if min(row["reference_rows"], row["current_rows"]) >= self.policies.min_sample
                for p in ("chi_square_p_value", "ks_p_value")
            )
            for name, (row, is_identifier) in found.items():
                is_sure = self._is_sure(row["chi_square_p_value"], tests)
                row["tests"] = tests
                row["status"] = self._status(row, is_sure, self._is_apart(row, tests))
                if is_identifier and row["status"] != "too few rows":
                    row["status"] = "identifier"
                rows[model, name] = row
        return rows

    # --- recent_performance

    def recent_performance(self) -> dict[str, Row]:
        """Labels by the hour in which they were known, the metric_window behind the clock."""
        rows = {}
        for model in self.models:
            champion = self.champion(model)
            first = hour(self.oracle.clock(model) - self.policies.metric_window)
            judged = [
                event
                for event, _, known in self.known(model)
                if known >= first
                and event.variant not in ("explore", "holdout")
                and (champion is None or champion.model_version == event.model_version)
            ]
            row: Row = {"model_version": champion.model_version if champion else None}
            row |= {"window_start": first, "labeled": len(judged), "auc": None}
            if judged:
                found = self.oracle.quality(judged)
                row |= {name: found[name] for name in ("positives", "accuracy", "f1", "auc")}
            rows[model] = row
        return rows

    # --- label_drift

    def label_drift(self) -> dict[str, Row]:
        return {model: self._labels(model) for model in self.models}

    def _labels(self, model: str) -> Row:
        judged = [
            (hour(at(event)), self.oracle.judged(event, label)[0], self._is_class(event, label))
            for event in self.predictions(model)
            if event.request_id in self.oracle.settled
            for label in [self.oracle.settled[event.request_id].label]
        ]
        positive = self.oracle.positive_of(model)
        start, end = (hour(time) for time in self.reference(model))
        end += HOUR
        row: Row = {"window_start": None, "window_end": None}
        old = [label for time, label, counts in judged if counts and start <= time < end]
        new = []
        if judged:
            last = HOUR + max(time for time, _, _ in judged)
            since = max(hour(last - self.policies.metric_window), end)
            row = {"window_start": since, "window_end": max(last, end)}
            new = [label for time, label, counts in judged if counts and since <= time < last]
        row |= distances(old, new)
        del row["bins"]
        row |= {"reference_rows": len(old), "current_rows": len(new)}
        for name, side in (("reference", old), ("current", new)):
            row[f"{name}_positive_share"] = share(side.count(positive), len(side))
        row["status"] = self._status(row, self._is_sure(row["p_value"]))
        return row

    def _is_class(self, event: Inference, label: str) -> bool:
        """Whether a label counts among those that are compared, be it as a measure."""
        if self.oracle.tasks[event.model] == "reward":
            return label in ("0", "1")
        is_reward = self.oracle.kind(event) in REWARDS
        is_classified = self.oracle.tasks[event.model] in (None, "classification")
        return is_classified and not is_reward

    # --- concept_drift

    def concept_drift(self) -> dict[str, Row]:
        return {model: concept_drift(*self._errors(model), self.policies) for model in self.models}

    def _errors(self, model: str) -> tuple[str | None, dict[datetime, list[float]]]:
        """The kind of error of the model's predictions, and all errors by the hour."""
        champion = self.champion(model)
        wrong, squared, absolute = [], [], []
        measures = 0
        for event, label, time in self.known(model):
            if champion and champion.model_version != event.model_version:
                continue
            if event.variant in ("explore", "holdout"):
                continue
            prediction = event.prediction
            classes = self.oracle.judged(event, label)
            if None not in classes:
                wrong.append((time, float(classes[0] != classes[1])))
            if classes[0] is not None and event.score is not None:
                hit = classes[0] == self.oracle.positive_of(model)
                squared.append((time, (event.score - hit) ** 2))
            if self.oracle.tasks[model] != "regression" or self.oracle.kind(event) in REWARDS:
                continue
            if number(label) is not None and number(prediction) is not None:
                absolute.append((time, abs(number(label) - number(prediction))))
                measures += None in classes
        for name, found in (("misclassification", wrong), ("brier", squared)):
            if found and len(found) >= measures:
                return name, by_hour(found)
        return ("relative absolute error" if absolute else None), by_hour(absolute)


def max_of(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def at(event: Inference) -> datetime:
    return utc(event.event_time)

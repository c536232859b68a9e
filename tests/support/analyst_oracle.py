"""What analysts ask of slices, feedback and items once more, naively: plain Python over events."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from headrace.events.contract import Feedback, Inference
from tests.support.label_oracle import REWARDS, utc
from tests.support.oracle import Oracle, as_class, hour

HOUR = timedelta(hours=1)
DAY = 24 * HOUR
CONVERSIONS = ("purchase", "conversion")
Row = dict[str, Any]
Rows = dict[tuple[Any, ...], Row]


def day(time: datetime) -> datetime:
    return hour(utc(time)).replace(hour=0)


def models(oracle: Oracle) -> Iterator[tuple[str, datetime, list[Inference]]]:
    """Every model with its clock and its predictions that people saw."""
    for model in {event.model for event in oracle.inference.values()}:
        seen = [event for event in oracle.of(model) if event.variant != "shadow"]
        yield model, oracle.clock(model), seen


def heard(oracle: Oracle, seen: list[Inference]) -> list[tuple[datetime, Feedback, Inference]]:
    """The feedback on these predictions, with the time at which it became known."""
    by_id = {event.request_id: event for event in seen}
    return [
        (max(utc(said.event_time), utc(by_id[said.request_id].event_time)), said,
         by_id[said.request_id])
        for said in oracle.feedback.values()
        if said.request_id in by_id
    ]  # fmt: skip


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def z_of(s_a: int, n_a: int, s_b: int, n_b: int) -> float | None:
    """The pooled two-proportion z-test."""
    if not n_a or not n_b:
        return None
    pooled = (s_a + s_b) / (n_a + n_b)
    variance = pooled * (1 - pooled) * (1 / n_a + 1 / n_b)
    return (s_a / n_a - s_b / n_b) / math.sqrt(variance) if variance else None


def slices(oracle: Oracle) -> Rows:
    sums: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for model, clock, seen in models(oracle):
        for event in seen:
            if day(utc(event.event_time)) < day(clock) - 29 * DAY:
                continue
            for dimension, name in (("segment", event.segment), ("endpoint", event.endpoint)):
                of = sums[model, dimension, name or "", day(utc(event.event_time))]
                of["predictions"] += 1
                of["errors"] += event.error is not None
                if held := oracle.settled.get(event.request_id):
                    label = None if held.kind in REWARDS else as_class(held.label)
                    prediction = as_class(event.prediction)
                    of["labels"] += 1
                    of["classified"] += label is not None and prediction is not None
                    of["correct"] += label is not None and label == prediction
                    of["reward"] += oracle.reward(event)  # type: ignore[assignment]
    rows = {}
    for (*slice_, at), of in sums.items():
        days = {when: each for (*other, when), each in sums.items() if other == slice_}
        before, since = (
            [sum(each[name] for when, each in days.items() if (when < at) == earlier)
             for name in ("correct", "classified")]
            for earlier in (True, False)
        )  # fmt: skip
        rows[*slice_, at] = {
            **{name: of[name] for name in ("predictions", "errors", "labels")},
            "accuracy": share(of["correct"], of["classified"]),
            "mean_reward": share(of["reward"], of["labels"]),
            "labels_before": before[1], "labels_since": since[1],
            "accuracy_before": share(*before), "accuracy_since": share(*since),
            "drop_z": z_of(*before, *since),
        }  # fmt: skip
    return rows


def trend(oracle: Oracle) -> Rows:
    sums: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for model, clock, seen in models(oracle):
        first = day(clock) - 29 * DAY
        for event in seen:
            if (at := day(utc(event.event_time))) >= first:
                sums[model, event.model_version, at]["predictions"] += 1
        for known, said, event in heard(oracle, seen):
            if (at := day(known)) >= first:
                of = sums[model, event.model_version, at]
                of["feedback"] += 1
                of["reports"] += said.kind == "report"
                if said.value is not None:
                    of["thumbs_up"] += said.kind == "thumbs" and said.value > 0
                    of["thumbs_down"] += said.kind == "thumbs" and said.value <= 0
                    of["conversions"] += said.kind in CONVERSIONS and said.value > 0
    names = ("predictions", "feedback", "thumbs_up", "thumbs_down", "reports", "conversions")
    return {
        key: {
            **{name: of[name] for name in names},
            "feedback_rate": share(of["feedback"], of["predictions"]),
            "positive_share": share(of["thumbs_up"], of["thumbs_up"] + of["thumbs_down"]),
            "thumbs_down_rate": share(of["thumbs_down"], of["predictions"]),
            "conversion_rate": share(of["conversions"], of["predictions"]),
        }
        for key, of in sums.items()
    }


def spikes(oracle: Oracle) -> Rows:
    rows = {}
    for model, clock, seen in models(oracle):
        end = hour(clock) + HOUR
        start = end - DAY
        first = min(utc(event.event_time) for event in oracle.of(model))
        days = min(7.0, (start - first) / DAY)
        reports: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        for known, said, event in heard(oracle, seen):
            if said.kind == "report" and known >= end - 8 * DAY:
                topic = said.label if said.label is not None else said.metadata.get("type")
                for dimension, name in [*places(event), ("topic", topic)]:
                    reports[dimension, str(name or "")].append(known)
        for (dimension, name), times in reports.items():
            predictions = sum(
                dimension == "topic" or (dimension, name) in places(event)
                for event in seen
                if utc(event.event_time) >= start
            )
            now = sum(time >= start for time in times)
            usual = (len(times) - now) / days if days >= 1 else None
            score = None if usual is None else (now - usual) / math.sqrt(usual + 1)
            rows[model, dimension, name] = {
                "window_start": start, "window_end": end, "predictions": predictions,
                "reports": now, "expected": usual, "spike_score": score,
                "reports_per_100k": share(1e5 * now, predictions),
                "status": "too young" if score is None else "spike" if score >= 5 else "usual",
            }  # fmt: skip
    return rows


def places(event: Inference) -> list[tuple[str, str]]:
    return [
        ("segment", event.segment or ""),
        ("endpoint", event.endpoint or ""),
        ("version", event.model_version),
    ]


def conversions(oracle: Oracle, min_sample: int) -> Rows:
    rows = {}
    for model, clock, seen in models(oracle):
        end = hour(clock) + HOUR
        start = end - DAY
        first = start - 30 * DAY
        asked = [utc(event.event_time) for event in seen]
        known = [
            time
            for time, said, _ in heard(oracle, seen)
            if said.kind in CONVERSIONS and time >= first
        ]
        got = [
            time
            for time, said, _ in heard(oracle, seen)
            if said.kind in CONVERSIONS and said.value is not None and said.value > 0
        ]
        if not known:
            continue
        now, before = sum(t >= start for t in asked), sum(first <= t < start for t in asked)
        bought, earlier = sum(t >= start for t in got), sum(first <= t < start for t in got)
        rate, usual = share(bought, now), share(earlier, before)
        z = z_of(min(bought, now), now, min(earlier, before), before)
        status = "usual" if z is None or abs(z) < 4 else "high" if z > 0 else "low"
        rows[model,] = {
            "window_start": start, "window_end": end, "predictions": now, "conversions": bought,
            "conversion_rate": rate, "predictions_before": before, "conversions_before": earlier,
            "baseline_rate": usual, "z_score": z,
            "change": None if rate is None or not usual else rate / usual - 1,
            "status": "too few predictions" if min(now, before) < min_sample else status,
        }  # fmt: skip
    return rows


def coverage(oracle: Oracle) -> Rows:
    rows = {}
    for model, clock, seen in models(oracle):
        end = hour(clock) + HOUR
        shown = [
            (utc(event.event_time), event.item_id)
            for event in seen
            if event.item_id is not None and utc(event.event_time) >= end - 30 * DAY
        ]
        for name, days in [("1 day", 1), ("7 days", 7), ("30 days", 30)] if shown else []:
            start = end - days * DAY
            counts = sorted(Counter(item for time, item in shown if time >= start).values())
            top = counts[-math.ceil(len(counts) / 10) :] if counts else []
            items = len({item for _, item in shown})
            rows[model, name] = {
                "window_start": start, "window_end": end, "catalogue_items": items,
                "items_shown": len(counts), "coverage": len(counts) / items,
                "predictions": sum(counts), "top_tenth_share": share(sum(top), sum(counts)),
            }  # fmt: skip
    return rows

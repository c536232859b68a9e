"""What the label of a prediction is, naively: plain Python over all feedback."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headrace.events.contract import Feedback, Inference

UNLABELED = ("preference", "report", "comment", "retraction")
RIGHT_OR_WRONG = ("label", "correction")
REWARDS = ("rating", "thumbs", "click", "dwell", "purchase", "conversion")
SILENT = "default"  # the kind of a label that silence gives
DEFAULT = ("last", 0, 1.0)
# What sql/label_policies.csv says of the other kinds.
DEFAULTS = {"label": ("majority", 1, 1.0), "correction": ("last", 1, 1.0)}


@dataclass(frozen=True)
class Held:
    """The feedback that decides (none: silence), the label and worth it comes to, and a weight.

    `rewards` is what the rewards come to, where there are any; `raters` are those of the kind that
    decides, `agreeing` those of them who say the label. `known_at` is when both feedback and
    prediction had happened, or silence was a label; `settled_at` is from when on the label counts,
    None while it does not.
    """

    event: Feedback | None
    label: str
    worth: float | None
    weight: float
    raters: int = 1
    agreeing: int = 1
    rewards: Held | None = None
    known_at: datetime | None = None
    settled_at: datetime | None = None

    @property
    def kind(self) -> str:
        return self.event.kind if self.event else SILENT


@dataclass(frozen=True)
class Silence:
    """The label of a prediction without feedback within a window."""

    label: str
    window: timedelta = timedelta(0)


class LabelOracle:
    """The label of every prediction after these events (of each id the first)."""

    def __init__(
        self,
        inference: dict[str, Inference],
        feedback: dict[str, Feedback],
        policies: Mapping[str, tuple[str, int, float]] | None = None,
        silence: Mapping[str, Silence] | None = None,
    ) -> None:
        self.inference = inference
        self.feedback = feedback
        # of every kind: which feedback wins, its priority and its weight
        self.policies = DEFAULTS if policies is None else policies
        # by model
        self.silence = silence or {}
        self.labels = self._labels()
        # those that count in the metrics
        self.settled = {name: h for name, h in self.labels.items() if h.settled_at is not None}

    def _labels(self) -> dict[str, Held]:
        """The label of every prediction, or of the one that it shadows; silence may be one."""
        clocks = {model: self.clock(model) for model in {e.model for e in self.inference.values()}}
        valued = {
            self.inference[event.request_id].model
            for event in self.feedback.values()
            if event.kind in REWARDS and event.request_id in self.inference
        }
        by_request: dict[str, list[Feedback]] = defaultdict(list)
        for event in self.standing():
            if label_of(event) is not None:
                by_request[event.request_id].append(event)
        held = {}
        for request_id, inference in self.inference.items():
            asked = utc(inference.event_time)
            terms = self.silence.get(inference.model)
            closes_at = asked + terms.window if terms else asked
            is_closed = closes_at <= clocks[inference.model]
            heard = by_request.get(inference.shadow_of or request_id, [])
            if found := self.decided(inference, heard):
                assert found.event
                known_at = max(asked, utc(found.event.event_time))
                settled_at = max(known_at, closes_at) if is_closed or not terms else None
                held[request_id] = replace(found, known_at=known_at, settled_at=settled_at)
            elif terms and is_closed:
                worth = number(terms.label) if inference.model in valued else None
                held[request_id] = Held(
                    None, terms.label, worth, 1.0, known_at=closes_at, settled_at=closes_at
                )
        return held

    def standing(self, moment: datetime | None = None) -> list[Feedback]:
        """Feedback that was not retracted, or not yet at a moment."""
        gone = {
            (event.request_id, event.retracts)
            for event in self.feedback.values()
            if event.retracts is not None and (moment is None or utc(event.event_time) <= moment)
        }
        return [f for f in self.feedback.values() if (f.request_id, f.feedback_id) not in gone]

    def decided(self, inference: Inference, heard: list[Feedback]) -> Held | None:
        """What all feedback on a prediction comes to."""
        heard = [event for event in heard if not is_early(event, inference)]
        of_kinds = [self._held(kind, heard) for kind in {event.kind for event in heard}]

        def place(held: Held) -> tuple[Any, ...]:
            assert held.event
            return self._policy(held.event.kind)[1], voice(held.event), *moment_of(held.event)

        if not of_kinds:
            return None
        rewards = [held for held in of_kinds if held.kind not in RIGHT_OR_WRONG]
        return replace(max(of_kinds, key=place), rewards=max(rewards, key=place, default=None))

    def _policy(self, kind: str) -> tuple[str, int, float]:
        return self.policies.get(kind, DEFAULT)

    def _held(self, kind: str, heard: list[Feedback]) -> Held:
        """What all feedback of one kind comes to."""
        wins, _, weight = self._policy(kind)
        of_kind = sorted((event for event in heard if event.kind == kind), key=moment_of)
        last_of = {event.user_id or None: event for event in of_kind}
        votes = Counter(label_of(event) for event in last_of.values())
        best = max(map(voice, of_kind))
        event = [f for f in of_kind if voice(f) == best][0 if wins == "first" else -1]
        values = [f.value for f in of_kind if f.value is not None]
        if wins == "max" and values:
            largest = [f for f in of_kind if f.value == max(values)]
            event = max(largest, key=lambda f: (voice(f), *moment_of(f)))
        if wins == "majority":
            event = max(
                last_of.values(), key=lambda f: (votes[label_of(f)], voice(f), *moment_of(f))
            )
        people = len(last_of), votes[label_of(event)]
        if wins == "sum" and values:
            total = math.fsum(values)
            return Held(event, f"{total:g}", total, weight, *people)
        return Held(event, str(label_of(event)), event.value, weight, *people)

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


def number(text: Any) -> Any:
    """The number that a label stands for, or None."""
    found = re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,2})?", str(text))
    return float(str(text)) if found else None


def label_of(event: Feedback) -> str | None:
    if event.kind in UNLABELED:
        return None
    if event.label is not None:
        return str(event.label)
    return None if event.value is None else f"{event.value:g}"


def voice(event: Feedback) -> int:
    """What people said comes before what they did, and that before what a system measured."""
    if event.kind in RIGHT_OR_WRONG:
        return 2
    return {"system": 0, "implicit": 1}.get(event.source, 2)


def is_early(event: Feedback, inference: Inference) -> bool:
    """Whether it is a reward dated before its prediction."""
    early = utc(event.event_time) < utc(inference.event_time)
    return early and event.kind not in RIGHT_OR_WRONG and inference.shadow_of is None


def moment_of(event: Feedback) -> tuple[datetime, bytes]:
    return utc(event.event_time), str(event.feedback_id).encode()


def utc(time: datetime | None) -> datetime:
    assert time is not None
    return time.astimezone(UTC)

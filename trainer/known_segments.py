"""The features of a segment as they could be known when each prediction was made.

`segment_feature_history` says what was known by the times that events are dated with, so a label
that comes in late changes it behind the time of predictions that could not know it. Here a label
also has to have come in before the prediction did. Everything else is as in that view, by its own
SQL: labels count from the end of their minute on, until they were revised, and for 30 days. It is
made of the events (`segment_labels.py`), so panes and their retention do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from headrace.engine import Engine
from headrace.trainer.counting import Ints, dominated
from headrace.trainer.segment_labels import COLUMNS, MONTH, microseconds, said_of_segments

# The source of the feature views that this module can answer, and their features.
HISTORY = "headrace.segment_feature_history"
FEATURES = ("labels_30d", "positives_30d", "positive_rate_30d")
# A prediction that came in later than this after its time was not made live (see traffic_quality).
LIVE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """A prediction whose features are asked for: its segment, its time, and when it came in."""

    segment: str
    event_time: datetime
    ingested_at: datetime

    @property
    def known_at(self) -> datetime:
        """What came in by then could be known to it.

        That is its own time, and of a replay, where that is long past, when it came in itself.
        """
        if self.ingested_at - self.event_time <= LIVE:
            return min(self.event_time, self.ingested_at)
        return self.ingested_at


def known_then(
    engine: Engine, query: Mapping[str, Any], asked: Sequence[Asked]
) -> list[dict[str, int | float | None]]:
    """Return FEATURES for each prediction, all None where its segment had no label then.

    Args:
        query: as `control.datasets` records it: model, policies of labels, and positive_label.
    """
    if not asked:
        return []
    said = said_of_segments(engine, query, {one.segment for one in asked})
    has_positives = query["positive_label"] is not None
    return [_features(*of_one, has_positives) for of_one in _counted(said, asked)]


def _counted(said: Mapping[str, Ints], asked: Sequence[Asked]) -> list[tuple[int, int]]:
    """Count the labels, and the positive ones, of each prediction."""
    numbers = {segment: number for number, segment in enumerate({one.segment for one in asked})}
    facts = np.concatenate([np.empty((0, COLUMNS), dtype=np.int64), *said.values()])
    segment = np.repeat(
        np.array([numbers[name] for name in said], dtype=np.int64),
        [len(of_segment) for of_segment in said.values()],
    )
    start, end, heard_at, weights = facts[:, 0], facts[:, 1], facts[:, 2], facts[:, 3:]
    # One axis holds segment after segment; a minute is never negative, and no month as long.
    first = min(start.min(initial=0), 0) - 2 * MONTH
    span = max(start.max(initial=0), max(_minute(one.event_time) for one in asked)) - first
    span += 2 * MONTH

    def place(segments: Ints, minutes: Ints) -> Ints:
        places: Ints = segments * span + minutes - first
        return places

    at = np.array([numbers[one.segment] for one in asked])
    minute = np.array([_minute(one.event_time) for one in asked])
    known_at = np.array([microseconds(one.known_at) for one in asked])
    # A label counts for a month ...
    now, before = place(at, minute), place(at, minute - MONTH)
    told = weights[:, 0] > 0
    counts = _between(
        place(segment[told], start[told]), heard_at[told], weights[told], before, now, known_at
    )
    # ... and is taken out for what is left of that month.
    taken = ~told
    counts += _between(
        np.concatenate(
            [place(segment[taken], start[taken]), place(segment[taken], end[taken])],
        ),
        np.tile(heard_at[taken], 2),
        np.concatenate([weights[taken], -weights[taken]]),
        place(at, np.full_like(minute, first)),
        now,
        known_at,
    )
    return [(labels, positives) for labels, positives in counts.tolist()]


def _between(x: Ints, y: Ints, weights: Ints, start: Ints, end: Ints, at_y: Ints) -> Ints:
    """Sum the weights of the points with start <= x < end and y <= at_y, for each query."""
    sums = dominated(x, y, weights, np.concatenate([start, end]), np.tile(at_y, 2))
    until_start, until_end = np.split(sums, 2)
    return until_end - until_start


def _features(labels: int, positives: int, has_positives: bool) -> dict[str, int | float | None]:
    if labels == 0:
        return dict.fromkeys(FEATURES)
    if not has_positives:
        return dict(zip(FEATURES, (labels, None, None), strict=True))
    return dict(zip(FEATURES, (labels, positives, positives / labels), strict=True))


def _minute(time: datetime) -> int:
    return microseconds(time) // 60_000_000

"""The features of a segment as they could be known when each prediction was made.

`segment_feature_history` says what was known by the times that events are dated with, so a label
that comes in late changes it behind the time of predictions that could not know it. Here a label
also has to have come in before the prediction did. Everything else is as in that view, by its own
SQL: labels count from the end of their minute on, until they were revised, and for 30 days. It is
made of the events, so panes and their retention do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from headrace.engine import Engine
from headrace.events.labels import class_of
from headrace.trainer.counting import Ints, dominated
from headrace.trainer.label_sql import chosen_labels, is_about, staged_feedback

# The source of the feature views that this module can answer, and their features.
HISTORY = "headrace.segment_feature_history"
FEATURES = ("labels_30d", "positives_30d", "positive_rate_30d")
# A prediction that came in later than this after its time was not made live (see traffic_quality).
LIVE = timedelta(hours=1)
MONTH = 30 * 24 * 60  # minutes

# What was said of each prediction after each moment at which something came in about it. It counts
# from `counts_from` on: when all that had come in had happened, and silence had become a label.
_SAID = """
with inferences as (
    select inference.*, inference.request_id as served_id
    from events.inference as inference
    where
        inference.model = %(model)s
        and inference.variant != 'shadow'
        and inference.segment is not null
        and inference.event_time < %(before)s
        and inference.ingested_at <= %(latest)s
),

known_feedback as (
    select f.*
    from (select distinct request_id from inferences) as requests
    inner join events.feedback as f on requests.request_id = f.request_id
    where f.ingested_at <= %(latest)s
),

feedback as ({feedback}),

kinds as (
    select '*' as model, kind, wins, priority, 1::double precision as weight
    from (values {kinds}) as policies (kind, wins, priority)
),

times as (
    select
        i.request_id,
        i.model,
        i.item_id,
        i.segment,
        greatest(f.ingested_at, i.ingested_at) as as_of,
        greatest(f.event_time, i.event_time) as happened_at
    from inferences as i
    inner join feedback as f on i.request_id = f.request_id and {is_about}
    where f.kind not in ('preference', 'report', 'comment')
    union all
    select
        request_id,
        model,
        item_id,
        segment,
        ingested_at as as_of,
        event_time + %(label_window)s::interval as happened_at
    from inferences
    where %(default_label)s::text is not null
),

grouped as (
    select
        request_id,
        model,
        item_id,
        segment,
        as_of,
        max(happened_at) as happened_at
    from times
    group by request_id, model, item_id, segment, as_of
),

counting as (
    select
        *,
        max(happened_at) over (
            partition by request_id, model, item_id
            order by as_of
            rows between unbounded preceding and current row
        ) as counts_from,
        lead(as_of) over (partition by request_id, model, item_id order by as_of) as until,
        lead(happened_at) over (partition by request_id, model, item_id order by as_of)
            as next_happened_at
    from grouped
),

moments as (
    select
        request_id,
        model,
        item_id,
        segment,
        as_of,
        until,
        counts_from,
        greatest(counts_from, next_happened_at) as next_counts_from
    from counting
),

labels as ({labels}),

-- Silence says something where nothing else does. (No join: its rows would be underestimated.)
ranked as (
    select
        *,
        row_number() over (
            partition by request_id, model, item_id, as_of order by is_silence
        ) as place
    from (
        select
            request_id, model, item_id, segment, as_of, until, counts_from, next_counts_from,
            label, 0 as is_silence
        from labels
        union all
        select
            request_id, model, item_id, segment, as_of, until, counts_from, next_counts_from,
            %(default_label)s::text as label, 1 as is_silence
        from moments
        where %(default_label)s::text is not null
    ) as said
)

select
    segment,
    label,
    (extract(epoch from as_of) * 1000000)::bigint as heard_at,
    floor(extract(epoch from counts_from) / 60)::bigint as counts_from,
    (extract(epoch from until) * 1000000)::bigint as until,
    floor(extract(epoch from next_counts_from) / 60)::bigint as next_counts_from
from ranked
where place = 1 and counts_from < %(before)s
"""


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
    engine: Engine,
    query: Mapping[str, Any],
    kinds: str,
    parameters: Mapping[str, Any],
    asked: Sequence[Asked],
) -> list[dict[str, int | float | None]]:
    """Return FEATURES for each prediction, all None where its segment had no label then.

    Args:
        query: as `control.datasets` records it: model, policies of labels, and positive_label.
        kinds: the label policies as rows of VALUES, with their `parameters`.
    """
    if not asked:
        return []
    dialect = engine.dialect.name
    text = _SAID.format(
        kinds=kinds,
        feedback=staged_feedback(dialect, "known_feedback"),
        is_about=is_about(dialect, "f", "i"),
        labels=chosen_labels(
            dialect, "inferences", "feedback", "kinds", as_of=True, heard="moments"
        ),
    )
    bounds = {
        "before": max(one.event_time for one in asked),
        "latest": max(one.known_at for one in asked),
    }
    with engine.connect() as connection:
        said = connection.execute(text, {**parameters, **bounds}).fetchall()
    counts = _counted(said, query["positive_label"], asked)
    has_positives = query["positive_label"] is not None
    return [_features(*of_one, has_positives) for of_one in counts]


def _counted(
    said: Sequence[tuple[Any, ...]], positive: str | None, asked: Sequence[Asked]
) -> list[tuple[int, int]]:
    """Count the labels, and the positive ones, of each prediction."""
    numbers: dict[str, int] = {}
    for one in asked:
        numbers.setdefault(one.segment, len(numbers))
    classes = {label: class_of(label) for label in {row[1] for row in said}}
    facts = np.array(
        [
            (
                numbers[segment],
                classes[label] == positive,
                heard_at,
                counts_from,
                -1 if until is None else until,
                0 if until is None else next_counts_from,
            )
            for segment, label, heard_at, counts_from, until, next_counts_from in said
            if segment in numbers
        ],
        dtype=np.int64,
    ).reshape(-1, 6)
    segment, is_positive, heard_at, counts_from, until, ends_at = facts.T
    weights = np.stack([np.ones_like(is_positive), is_positive], axis=1)
    # One axis holds segment after segment; a minute is never negative, and no month as long.
    first = min(counts_from.min(initial=0), 0) - 2 * MONTH
    span = max(counts_from.max(initial=0), max(_minute(one.event_time) for one in asked)) - first
    span += 2 * MONTH

    def place(segments: Ints, minutes: Ints) -> Ints:
        places: Ints = segments * span + minutes - first
        return places

    at = np.array([numbers[one.segment] for one in asked])
    minute = np.array([_minute(one.event_time) for one in asked])
    known_at = np.array([_microseconds(one.known_at) for one in asked])
    # Until it was revised, a label counts for a month ...
    now, before = place(at, minute), place(at, minute - MONTH)
    counts = _between(place(segment, counts_from), heard_at, weights, before, now, known_at)
    # ... so a revision takes it out for what is left of that month.
    revised = (until >= 0) & (ends_at < counts_from + MONTH)
    gone = _between(
        np.concatenate(
            [
                place(segment[revised], ends_at[revised]),
                place(segment[revised], counts_from[revised] + MONTH),
            ]
        ),
        np.tile(until[revised], 2),
        np.concatenate([weights[revised], -weights[revised]]),
        place(at, np.full_like(minute, first)),
        now,
        known_at,
    )
    return [(labels, positives) for labels, positives in (counts - gone).tolist()]


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


def _microseconds(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _minute(time: datetime) -> int:
    return _microseconds(time) // 60_000_000

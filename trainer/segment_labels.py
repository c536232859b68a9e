"""What was said of the predictions of each segment, by when it was heard.

A label counts for its segment from the end of its minute on, until it was revised, and for MONTH.
A set asks for that of all history, so on PostgreSQL what was heard up to a claim is kept
(`control.segment_labels`), and the next claim adds what it heard since. What was heard by a moment
never changes, so the kept rows are those that the events would give again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from headrace.engine import Engine
from headrace.events.labels import class_of
from headrace.trainer.counting import Ints
from headrace.trainer.heard import NARROW, heard, label_policies
from headrace.trainer.label_sql import chosen_labels, is_about

MONTH = 30 * 24 * 60  # minutes
BEGINNING, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
# Columns of what is kept; LAYOUT is counted up when what they hold changes.
COLUMNS, LAYOUT = 5, 1

# What was said of each prediction after each moment at which something came in about it. It counts
# from `counts_from` on: when all that had come in had happened, and silence had become a label.
_SAID = """
with heard_of as (
    -- what was heard since then is about these; the others are as they were kept
    select request_id
    from events.feedback
    where ingested_at > %(heard_until)s and ingested_at <= %(known_at)s
    union
    select i.request_id
    from events.inference as i
    inner join events.feedback as f on i.request_id = f.request_id
    where
        i.model = %(model)s
        and i.ingested_at > %(heard_until)s
        and i.ingested_at <= %(known_at)s
        and f.ingested_at <= %(heard_until)s
    union
    select request_id
    from events.inference
    where
        %(default_label)s::text is not null
        and model = %(model)s
        and ingested_at > %(heard_until)s
        and ingested_at <= %(known_at)s
),

inferences as (
    select {narrow}, inference.request_id as served_id
    from heard_of
    inner join events.inference as inference on heard_of.request_id = inference.request_id
    where
        inference.model = %(model)s
        and inference.variant != 'shadow'
        and inference.segment is not null
        and inference.ingested_at <= %(known_at)s
),

{heard},

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
where place = 1 and (as_of > %(heard_until)s or until > %(heard_until)s)
"""


def said_of_segments(
    engine: Engine, query: Mapping[str, Any], segments: Collection[str]
) -> dict[str, Ints]:
    """Return what was said by a claim, of each of the segments of which something was.

    Args:
        query: as `control.datasets` records it: model, known_at, policies of labels, and
            positive_label.

    Returns:
        Integers of shape (facts, COLUMNS): a label counts in predictions of the minutes after
        `start` up to `end` that know what came in by `heard_at` (microseconds), as `labels` (1, or
        -1 where it is taken back) of which `positives` are of the positive class.
    """
    kinds, parameters = label_policies(query)
    text = _said(engine.dialect.name, kinds)
    policies = _digest(text, query)
    known_at, heard_until = parameters["known_at"], BEGINNING
    found: list[tuple[str, Ints]] = []
    if engine.dialect.has_segment_labels:
        heard_until, found = _kept(engine, query["model"], policies, segments)
    if heard_until < known_at:
        with engine.connect() as connection:
            rows = connection.execute(text, {**parameters, "heard_until": heard_until}).fetchall()
        new = _facts(rows, query["positive_label"], heard_until)
        if engine.dialect.has_segment_labels:
            _keep(engine, query["model"], policies, (heard_until, known_at), new)
        found += [(segment, facts) for segment, facts in new.items() if segment in segments]
    of: dict[str, list[Ints]] = {}
    for segment, facts in found:
        of.setdefault(segment, []).append(facts)
    return {segment: np.concatenate(parts) for segment, parts in of.items()}


def _said(dialect: str, kinds: str) -> str:
    return _SAID.format(
        narrow=NARROW,
        heard=heard(dialect, "inferences", kinds),
        is_about=is_about(dialect, "f", "i"),
        labels=chosen_labels(
            dialect, "inferences", "feedback", "kinds", as_of=True, heard="moments"
        ),
    )


def _digest(text: str, query: Mapping[str, Any]) -> str:
    """Of all that decides what is kept, other than the events."""
    names = ("label_window", "default_label", "label_policies", "positive_label")
    decides = json.dumps([LAYOUT, text, *[query[name] for name in names]])
    return hashlib.md5(decides.encode()).hexdigest()


def _facts(
    rows: Sequence[tuple[Any, ...]], positive: str | None, heard_until: datetime
) -> dict[str, Ints]:
    """What these rows of _SAID add to what was heard until then, by segment."""
    classes = {label: class_of(label) for label in {row[1] for row in rows}}
    after = microseconds(heard_until)
    facts: dict[str, list[tuple[int, ...]]] = {}
    for segment, label, heard_at, counts_from, until, next_counts_from in rows:
        of_segment = facts.setdefault(segment, [])
        is_positive, ends_at = int(classes[label] == positive), counts_from + MONTH
        if heard_at > after:
            of_segment.append((counts_from, ends_at, heard_at, 1, is_positive))
        if until is not None and until > after and next_counts_from < ends_at:
            of_segment.append((next_counts_from, ends_at, until, -1, -is_positive))
    return {
        segment: np.array(of_segment, dtype=np.int64)
        for segment, of_segment in facts.items()
        if of_segment
    }


def _kept(
    engine: Engine, model: str, policies: str, segments: Collection[str]
) -> tuple[datetime, list[tuple[str, Ints]]]:
    """Return up to when something was kept, and what was, of these segments."""
    with engine.connect(autocommit=False) as connection:
        connection.execute("set transaction isolation level repeatable read")
        last = connection.execute(
            "select max(heard_until) from control.segment_labels "
            "where model = %s and policies_md5 = %s",
            [model, policies],
        ).fetchone()
        rows = connection.execute(
            "select segment, facts from control.segment_labels "
            "where model = %s and policies_md5 = %s and segment = any(%s)",
            [model, policies, list(segments)],
            binary=True,
        ).fetchall()
    kept = [
        (segment, np.frombuffer(facts, dtype="<i8").reshape(-1, COLUMNS)) for segment, facts in rows
    ]
    return (last and last[0]) or BEGINNING, kept


def _keep(
    engine: Engine,
    model: str,
    policies: str,
    span: tuple[datetime, datetime],
    facts: Mapping[str, Ints],
) -> None:
    """Keep what was heard in a span of time, unless another trainer has, or an older set asks."""
    heard_until, known_at = span
    if not facts:
        return
    with engine.connect(autocommit=False) as connection:
        connection.execute("lock table control.segment_labels in share row exclusive mode")
        rows = connection.execute(
            "select policies_md5, max(heard_until) from control.segment_labels "
            "where model = %s group by policies_md5",
            [model],
        ).fetchall()
        last: dict[str, datetime] = dict(rows)
        is_next = last.get(policies, BEGINNING) == heard_until
        if not is_next or any(until >= known_at for until in last.values()):
            return
        connection.execute(
            "delete from control.segment_labels where model = %s and policies_md5 != %s",
            [model, policies],
        )
        connection.cursor().executemany(
            "insert into control.segment_labels "
            "(model, policies_md5, heard_until, segment, facts) values (%s, %s, %s, %s, %s)",
            [
                (model, policies, known_at, segment, of_segment.astype("<i8").tobytes())
                for segment, of_segment in facts.items()
            ],
        )


def microseconds(time: datetime) -> int:
    """Return a time as a whole number, as the rows above have it."""
    return (time - BEGINNING) // MICROSECOND

"""What was known at a claim of a model's predictions: their labels, and who won of two answers.

Both are made from the events, not from what the views say now, but by the views' own SQL: feedback
that was ingested after the claim is not seen, and the policies are those that are recorded. A run
takes the newest ones and a sample of all others, so that it costs the same however long history is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier, Placeholder

from headrace.engine import Engine
from headrace.trainer.heard import NARROW, heard, label_policies
from headrace.trainer.label_sql import (
    chosen_labels,
    is_about,
    is_same_prediction,
    label_terms,
    preferences,
)

Row = dict[str, Any]

# Where labels come from: those that stand now and were heard of by then, or, where silence is a
# label, all predictions.
_LABELLED = """
    select request_id, item_id, inference_time
    from panes.labels
    where
        %(default_label)s::text is null
        and model = %(model)s
        and variant != 'shadow'
        and first_ingested_at <= %(known_at)s
        and inference_time <= %(event_clock)s - %(label_window)s::interval
"""
_SILENT = """
    select request_id, item_id, event_time as inference_time
    from events.inference
    where
        %(default_label)s::text is not null
        and model = %(model)s
        and variant != 'shadow'
        and ingested_at <= %(known_at)s
        and event_time <= %(event_clock)s - %(label_window)s::interval
"""
_RETRACTED = "select request_id, item_id, inference_time from retracted where true"
_SOURCES = (_LABELLED, _SILENT, _RETRACTED)

# The older examples are those whose hash follows a point that differs from run to run, and beyond
# the greatest hash the smallest ones: a random sample that an index finds.
_POINT = "%(replay_from)s::text"
_AFTER = f"md5(request_id) >= {_POINT}"
_BEFORE = f"md5(request_id) < {_POINT}"

# What is known of the chosen ones becomes labels as in the views, by the policies of the claim.
# Both engines run this; `{counts}` is `_COUNTS`.
_KNOWN = """
with retracted as (
    -- what was retracted since then may have had a label
    select i.request_id, i.item_id, i.event_time as inference_time
    from events.feedback as retraction
    inner join events.feedback as f
        on retraction.retracts = f.feedback_id and retraction.request_id = f.request_id
    inner join events.inference as i
        on f.request_id = i.request_id and {is_about}
    left join panes.labels as labels
        on
            i.request_id = labels.request_id
            and {is_labelled}
            and labels.first_ingested_at <= %(known_at)s
    where
        %(default_label)s::text is null
        and labels.request_id is null
        and retraction.retracts is not null
        and retraction.ingested_at > %(known_at)s
        and f.ingested_at <= %(known_at)s
        and i.ingested_at <= %(known_at)s
        and i.model = %(model)s
        and i.variant != 'shadow'
        and i.event_time <= %(event_clock)s - %(label_window)s::interval
        and ({counts})
    group by i.request_id, i.item_id, i.event_time
),

newest as ({newest}),

replayed as ({replayed}),

chosen as (
    select request_id, %(model)s::text as model, item_id from newest
    union
    select request_id, %(model)s::text as model, item_id from replayed
),

inferences as (
    select {narrow}, inference.request_id as served_id
    from chosen
    inner join events.inference as inference
        on chosen.request_id = inference.request_id and {is_chosen}
),

{heard},

clocks as (
    select
        %(model)s::text as model,
        %(event_clock)s::timestamptz as event_clock,
        0 as hears_values
),

policies as (
    select '*' as model, 'default_label' as policy, coalesce(%(default_label)s::text, '') as value
    union all
    select '*' as model, 'label_window' as policy, %(label_window)s::text as value
),

terms as ({terms}),

labels as ({labels})

select request_id, item_id, label, kind, known_at
from labels
"""

# Feedback that can be a label: has one, and is no reward dated before its prediction.
_COUNTS = """
    f.kind not in ('preference', 'report', 'comment', 'retraction')
    and (f.label is not null or f.value is not null)
    and (f.kind in ('correction', 'label') or f.event_time >= i.event_time)
"""

# Pairs of answers of which somebody preferred one, as in the pane `preferences`. Of a request with
# several predictions the first item counts, in the order of their names.
_PAIRS = """
with feedback as (
    select *
    from events.feedback
    where
        (rejected_request_id is not null or retracts is not null)
        and ingested_at <= %(known_at)s
),

inferences as (
    select i.*
    from (
        select request_id from feedback where rejected_request_id is not null
        union
        select rejected_request_id from feedback where rejected_request_id is not null
    ) as requests
    inner join events.inference as i on requests.request_id = i.request_id
    where
        i.model = %(model)s
        and i.ingested_at <= %(known_at)s
        and i.event_time <= %(event_clock)s - %(label_window)s::interval
),

pairs as ({pairs}),

newest as (
    select * from pairs
    where not is_tie
    order by feedback_time desc, feedback_id
    limit %(recent)s
),

replayed as (
    select * from pairs
    where not is_tie
    order by md5(feedback_id) < {point}, md5(feedback_id), feedback_id
    limit %(replay)s
)

select feedback_id, request_id, rejected_request_id, user_id, feedback_time from newest
union
select feedback_id, request_id, rejected_request_id, user_id, feedback_time from replayed
"""

# Of the predictions whose labels were found. (Not joined in the query: it expects a single row.)
_PREDICTIONS = """
select
    request_id, item_id, event_time, ingested_at, user_id, user_id as asked_by, session_id,
    position, propensity, segment, features, input, output, model_version, prediction, score,
    probabilities
from events.inference
where model = {} and {}
"""
CHUNK = 5_000  # ids in one query


def label_rows(engine: Engine, query: Mapping[str, Any]) -> list[Row]:
    """Return the labelled predictions of a recorded query, oldest first."""
    dialect = engine.dialect.name
    kinds, parameters = label_policies(query)
    text = _KNOWN.format(
        counts=_COUNTS,
        newest=_first("inference_time desc, request_id, item_id nulls first", "recent"),
        replayed=_first(
            f"({_BEFORE}), md5(request_id), request_id, item_id nulls first",
            "replay",
            (_AFTER, _BEFORE),
            "md5(request_id), request_id, item_id nulls first",
        ),
        is_about=is_about(dialect, "f", "i"),
        is_labelled=is_same_prediction(dialect, "i", "labels"),
        is_chosen=is_same_prediction(dialect, "chosen", "inference"),
        narrow=NARROW,
        heard=heard(dialect, "chosen", kinds),
        terms=label_terms(dialect, "clocks", "policies"),
        labels=chosen_labels(dialect, "inferences", "feedback", "kinds", "terms"),
    )
    labels = engine.rows(text, parameters)
    predictions = _predictions(engine, query["model"], [row["request_id"] for row in labels])
    rows = [
        {**predictions[row["request_id"]][row["item_id"]], **row}
        for row in labels
        if row["item_id"] in predictions.get(row["request_id"], ())
    ]
    return sorted(rows, key=_place)


def preference_rows(engine: Engine, query: Mapping[str, Any]) -> list[Row]:
    """Return the pairs of a recorded query, of which one answer was preferred, oldest first.

    Of a request with several predictions the one that the feedback names counts, or the first.
    """
    dialect, model = engine.dialect.name, query["model"]
    text = _PAIRS.format(pairs=preferences(dialect, "inferences", "feedback"), point=_POINT)
    pairs = engine.rows(text, label_policies(query)[1])
    won = _predictions(engine, model, [pair["request_id"] for pair in pairs])
    lost = _predictions(engine, model, [pair["rejected_request_id"] for pair in pairs])
    named = _among(
        engine,
        "select feedback_id, item_id from events.feedback where {}",
        "feedback_id",
        [pair["feedback_id"] for pair in pairs],
    )
    items = {row["feedback_id"]: row["item_id"] for row in named}
    rows = []
    for pair in pairs:
        preferred = _first_item(won[pair["request_id"]], items[pair["feedback_id"]])
        rejected = _first_item(lost[pair["rejected_request_id"]])
        times = pair["feedback_time"], preferred["event_time"], rejected["event_time"]
        rows.append(
            {
                **preferred,
                "kind": "preference",
                "known_at": max(times),
                "user_id": pair["user_id"],
                "feedback_id": pair["feedback_id"],
                "rejected_request_id": pair["rejected_request_id"],
                "rejected_output": rejected["output"],
                "rejected_prediction": rejected["prediction"],
            }
        )
    return sorted(rows, key=_place)


def _predictions(
    engine: Engine, model: str, ids: Sequence[str]
) -> dict[str, dict[str | None, Row]]:
    """Return the predictions of a model by request and item."""
    found: dict[str, dict[str | None, Row]] = defaultdict(dict)
    for row in _among(engine, _PREDICTIONS, "request_id", ids, model):
        found[row["request_id"]][row["item_id"]] = row
    return found


def _among(
    engine: Engine, query: str, column: str, values: Sequence[str], *parameters: str
) -> Iterator[Row]:
    """Yield the rows of a query whose column is one of these values."""
    wanted = sorted(set(values))
    with engine.connect(row_factory=dict_row) as connection:
        for start in range(0, len(wanted), CHUNK):
            among, given = engine.dialect.among(
                Identifier(column), SQL("text"), wanted[start : start + CHUNK]
            )
            text = SQL(query).format(*[Placeholder()] * len(parameters), among)
            yield from connection.execute(text, [*parameters, *given])


def _first_item(predictions: Mapping[str | None, Row], item_id: str | None = None) -> Row:
    """The prediction of an item, or of the first one by name, where one without comes before."""
    if item_id is not None:
        return predictions[item_id]
    return predictions[min(predictions, key=lambda item: (item is not None, item or ""))]


def _place(row: Row) -> tuple[Any, ...]:
    item, feedback = row["item_id"], row.get("feedback_id", "")
    return row["event_time"], row["request_id"], item is not None, item or "", feedback


def _first(order: str, limit: str, halves: tuple[str, ...] = ("true",), within: str = "") -> str:
    """The first of all candidates in an order that indexes have `within` each of the halves."""
    parts = [
        f"(select * from ({source} and {half}) as part "
        f"order by {within or order} limit %({limit})s)"
        for source in _SOURCES
        for half in halves
    ]
    return (
        f"select * from ({' union all '.join(parts)}) as found order by {order} limit %({limit})s"
    )

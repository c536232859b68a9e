"""The training set of a run: final labels as known at the claim, rebuildable by its id.

Labels are made from the events, not from what the views say now, but by the views' own SQL: a run
does not see feedback that was ingested after its claim, and the label policies in force are
recorded, so the same set comes out however often it is built. Features are those served with the
prediction; where another server predicted, Feast gives them as of that time.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pandas as pd
from psycopg.types.json import Jsonb

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.errors import ModelError
from headrace.events.contract import input_text
from headrace.events.labels import class_of
from headrace.features.reader import FeatureReader
from headrace.model.examples import LabeledExample
from headrace.model.inputs import Example
from headrace.trainer.label_sql import (
    chosen_labels,
    is_about,
    is_same_prediction,
    label_terms,
    staged_feedback,
)

# Newest examples, and older ones chosen by a hash of their id, that one run may hold in memory.
RECENT, REPLAY = 12_000, 8_000
# Of every hundred older examples this many are never trained on: they show what was forgotten. Each
# of so many spans of time gives the same number.
OLD_HOLDOUT_PERCENT, OLD_HOLDOUT_MAX, OLD_SPANS = 5, 1_000, 10
# The newest examples are held out to compare versions on what comes next: as many as the gate
# needs, within bounds. Few examples teach more by being learned from, so of the first FEW a
# smaller share is held out than of those beyond.
FEW, SHARE_OF_FEW, SHARE_BEYOND = 2_000, 0.15, 0.25
NEW_HOLDOUT_MIN, NEW_HOLDOUT_LEAST = 40, 300  # LEAST where the shares allow it
NEW_HOLDOUT_RARE = 30  # examples without the commonest label, the same

# Candidates are the labelled predictions, or all of them where silence is a label. What is known of
# the chosen ones becomes labels as in the views, by the policies of the claim. Both engines run
# this; `{kinds}` takes (kind, wins, priority) of each policy, `{counts}` is `_COUNTS`.
_KNOWN = """
with final as (
    select request_id, item_id, inference_time
    from panes.labels
    where
        %(default_label)s::text is null
        and model = %(model)s
        and variant != 'shadow'
        and first_ingested_at <= %(known_at)s
        and inference_time <= %(event_clock)s - %(label_window)s::interval
    union all
    -- what was retracted since then may have had a label
    select i.request_id, i.item_id, i.event_time
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
    union all
    select request_id, item_id, event_time
    from events.inference
    where
        %(default_label)s::text is not null
        and model = %(model)s
        and variant != 'shadow'
        and ingested_at <= %(known_at)s
        and event_time <= %(event_clock)s - %(label_window)s::interval
),

newest as (
    select request_id, item_id
    from final
    order by inference_time desc, request_id asc, item_id asc nulls first
    limit %(recent)s
),

replayed as (
    select request_id, item_id
    from final
    order by md5(request_id), request_id, item_id nulls first
    limit %(replay)s
),

chosen as (
    select request_id, %(model)s::text as model, item_id from newest
    union
    select request_id, %(model)s::text as model, item_id from replayed
),

inferences as (
    select inference.*, inference.request_id as served_id
    from chosen
    inner join events.inference as inference
        on chosen.request_id = inference.request_id and {is_chosen}
),

known_feedback as (
    select f.*
    from (select distinct request_id from chosen) as requests
    inner join events.feedback as f on requests.request_id = f.request_id
    where f.ingested_at <= %(known_at)s
),

feedback as ({feedback}),

kinds as (
    select '*' as model, kind, wins, priority, 1::double precision as weight
    from (values {kinds}) as policies (kind, wins, priority)
),

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

select
    inference.request_id,
    labels.label,
    labels.known_at,
    inference.event_time,
    inference.segment,
    inference.features,
    inference.input
from labels
inner join inferences as inference
    on labels.request_id = inference.request_id and {is_answered}
order by inference.event_time, inference.request_id, inference.item_id nulls first
"""

# Feedback that can be a label: has one, and is no reward dated before its prediction.
_COUNTS = """
    f.kind not in ('preference', 'report', 'comment', 'retraction')
    and (f.label is not null or f.value is not null)
    and (f.kind in ('correction', 'label') or f.event_time >= i.event_time)
"""


@dataclass(frozen=True)
class Dataset:
    """All rows of a run, oldest first, and the parts that they fall into.

    Attributes:
        query: what it takes to build the set again, as JSON.
        sha256: of the rows.
    """

    dataset_id: str
    query: Mapping[str, Any]
    sha256: str
    rows: Sequence[LabeledExample]

    def split(
        self, wanted: int = 0, after: datetime | None = None
    ) -> tuple[list[LabeledExample], list[LabeledExample], list[LabeledExample]]:
        """Return (train, newest held out, old held out), which share no row.

        `wanted` newest rows are held out, between the bounds above, but where enough are later than
        `after`, up to which the champion learned, none that are not. Which old rows are not trained
        on depends on their ids alone, so no later run trains on them; beyond what each span of time
        gives they are left out of everything.
        """
        few = min(len(self.rows), FEW)
        share = int(few * SHARE_OF_FEW + (len(self.rows) - few) * SHARE_BEYOND)
        bound = max(share, NEW_HOLDOUT_MIN)
        least = min(bound, NEW_HOLDOUT_LEAST)
        count = min(max(wanted, least, self._reach_of_rare()), bound)
        if after is not None:
            later = sum(row.event_time > after for row in self.rows)
            count = min(count, max(later, least))
        count = min(count, len(self.rows) // 3)
        edge = len(self.rows) - count
        train: list[LabeledExample] = []
        held: list[LabeledExample] = []
        for row in self.rows[:edge]:
            (held if _place(row) % 100 < OLD_HOLDOUT_PERCENT else train).append(row)
        return train, list(self.rows[edge:]), _spread(held)

    def _reach_of_rare(self) -> int:
        """How many of the newest rows hold NEW_HOLDOUT_RARE without the commonest label; or 0."""
        labels = [class_of(row.label) for row in reversed(self.rows)]
        commonest = max(Counter(labels).items(), key=lambda one: one[1], default=("", 0))[0]
        rare = (at for at, label in enumerate(labels, 1) if label != commonest)
        return next(islice(rare, NEW_HOLDOUT_RARE - 1, None), 0)


def _place(row: LabeledExample) -> int:
    return zlib.crc32(row.request_id.encode())


def _spread(rows: Sequence[LabeledExample]) -> list[LabeledExample]:
    """At most OLD_HOLDOUT_MAX of the rows, oldest first: as many of each span that has as many."""
    if not rows:
        return []
    first = rows[0].event_time
    length = max((rows[-1].event_time - first) / OLD_SPANS, timedelta(microseconds=1))
    spans: defaultdict[int, list[LabeledExample]] = defaultdict(list)
    for row in rows:
        spans[min((row.event_time - first) // length, OLD_SPANS - 1)].append(row)
    share = OLD_HOLDOUT_MAX // len(spans)
    kept = {id(row) for span in spans.values() for row in sorted(span, key=_place)[:share]}
    return [row for row in rows if id(row) in kept]


def compile_dataset(engine: Engine, claim: Claim, reader: FeatureReader) -> Dataset:
    """Build the training set of a claim, by the label policies in force now."""
    query = {
        "model": claim.model,
        "known_at": claim.known_at.isoformat(),
        "event_clock": claim.event_clock.isoformat(),
        **_label_policies(engine, claim.model),
        "recent": RECENT,
        "replay": REPLAY,
    }
    return _build(engine, claim.run_id, query, reader)


def record_dataset(engine: Engine, connection: Connection, claim: Claim, dataset: Dataset) -> None:
    """Keep what it takes to build the set again, in ``control.datasets``."""
    record = {
        "dataset_id": dataset.dataset_id,
        "model": claim.model,
        "run_id": claim.run_id,
        "known_at": claim.known_at,
        "examples": len(dataset.rows),
        "content_sha256": dataset.sha256,
        "query": Jsonb(dict(dataset.query)),
        "created_at": datetime.now(UTC),
    }
    engine.dialect.put(connection, "control.datasets", ["dataset_id"], [record])


def rebuild_dataset(engine: Engine, dataset_id: str, reader: FeatureReader) -> Dataset:
    """Build a recorded training set again.

    Raises:
        ModelError: there is no such set, or its content is no longer the same.
    """
    found = engine.rows(
        "select query, content_sha256 from control.datasets where dataset_id = %s", [dataset_id]
    )
    if not found:
        raise ModelError(f"dataset_id: there is no dataset {dataset_id!r}; see control.datasets")
    dataset = _build(engine, dataset_id, found[0]["query"], reader)
    if dataset.sha256 != found[0]["content_sha256"]:
        raise ModelError(f"dataset {dataset_id} has other content than was recorded")
    return dataset


def _label_policies(engine: Engine, model: str) -> dict[str, Any]:
    """The policies in force now by which feedback, or its absence, becomes a label.

    Rewards are no labels to a model whose task is to predict classes or numbers.
    """
    (terms,) = engine.rows(
        "select label_window::text, default_label from headrace.model_policies where model = %s",
        [model],
    )
    (told,) = engine.rows("select task from headrace.model_tasks where model = %s", [model])
    labels_only = told["task"] in ("classification", "regression")
    kinds = engine.rows(
        """
        select
            defaults.kind,
            coalesce(own.wins, defaults.wins) as wins,
            coalesce(own.priority, defaults.priority) as priority
        from control.label_policies as defaults
        left join control.label_policies as own
            on own.model = %s and own.kind = defaults.kind
        where
            defaults.model = '*'
            and (not %s or defaults.kind in ('correction', 'label'))
        order by defaults.kind
        """,
        [model, labels_only],
    )
    return {**terms, "label_policies": kinds}


def _build(
    engine: Engine, dataset_id: str, query: Mapping[str, Any], reader: FeatureReader
) -> Dataset:
    rows = _read(engine, query, reader)
    return Dataset(dataset_id, query, _sha256(rows), rows)


def _read(engine: Engine, query: Mapping[str, Any], reader: FeatureReader) -> list[LabeledExample]:
    parameters: dict[str, Any] = {
        **query,
        "known_at": datetime.fromisoformat(query["known_at"]),
        "event_clock": datetime.fromisoformat(query["event_clock"]),
    }
    kinds = []
    for number, policy in enumerate(query["label_policies"]):
        kinds.append(f"(%(kind{number})s::text, %(wins{number})s::text, %(priority{number})s::int)")
        parameters |= {f"{name}{number}": value for name, value in policy.items()}
    dialect = engine.dialect.name
    known = _KNOWN.format(
        kinds=", ".join(kinds),
        counts=_COUNTS,
        is_about=is_about(dialect, "f", "i"),
        is_labelled=is_same_prediction(dialect, "i", "labels"),
        is_chosen=is_same_prediction(dialect, "chosen", "inference"),
        is_answered=is_same_prediction(dialect, "labels", "inference"),
        feedback=staged_feedback(dialect, "known_feedback"),
        terms=label_terms(dialect, "clocks", "policies"),
        labels=chosen_labels(dialect, "inferences", "feedback", "kinds", "terms"),
    )
    found = engine.rows(known, parameters)
    if not found:
        return []
    frame = pd.DataFrame(
        {
            "model": query["model"],
            "segment": [row["segment"] for row in found],
            "event_timestamp": [row["event_time"] for row in found],
        }
    )
    found_features = reader.historical(frame)
    served = [
        dict(zip(reader.names, row, strict=True)) for row in found_features[reader.names].to_numpy()
    ]
    return [
        LabeledExample(
            row["request_id"],
            row["event_time"],
            row["known_at"],
            Example(input_text(row["input"]), row["segment"], {**features, **row["features"]}),
            row["label"],
        )
        for row, features in zip(found, served, strict=True)
    ]


def _sha256(rows: Sequence[LabeledExample]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        line = [
            row.request_id, row.event_time.isoformat(), row.known_at.isoformat(),
            row.example.text, row.example.segment, dict(row.example.features), row.label,
        ]  # fmt: skip
        digest.update(json.dumps(line, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()

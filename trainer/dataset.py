"""The training set of a run: what was known at its claim, rebuildable by its id.

Labels are made from the events, by the label policies in force at the claim, which are recorded
(`known.py`), so the same set comes out however often it is built. A row's features are those that
were served with its prediction; what was not served is looked up as of then: of segments in the
events (`known_segments.py`), of other views through Feast.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal, get_args

import pandas as pd
from psycopg.types.json import Jsonb

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.engine.dialect import Connection
from headrace.errors import ModelError
from headrace.events.contract import input_text
from headrace.events.labels import class_of
from headrace.features.reader import FeatureReader
from headrace.model.examples import LabeledExample, Logged
from headrace.model.inputs import Example, Scalar
from headrace.trainer.known import Row, label_rows, preference_rows
from headrace.trainer.known_segments import FEATURES, HISTORY, Asked, known_then

SetOf = Literal["classification", "preference", "generation"]

# Newest examples, and a sample of the older ones, that one run may hold in memory.
RECENT, REPLAY = 12_000, 8_000
# Of every hundred older requests this many are never trained on: they show what was forgotten. Each
# of so many spans of time gives the same number.
OLD_HOLDOUT_PERCENT, OLD_HOLDOUT_MAX, OLD_SPANS = 5, 1_000, 10
# The newest requests are held out to compare versions on what comes next: as many as the gate
# needs, within bounds. Few examples teach more by being learned from, so of the first FEW a
# smaller share is held out than of those beyond.
FEW, SHARE_OF_FEW, SHARE_BEYOND = 2_000, 0.15, 0.25
NEW_HOLDOUT_MIN, NEW_HOLDOUT_LEAST = 40, 300  # LEAST where the shares allow it
NEW_HOLDOUT_RARE = 30  # requests with another label than the commonest, the same

# Of feedback on a text these make it a target where they are positive, as a correction is one.
CORRECTION = "correction"
ACCEPTING = ("thumbs", "click", "purchase", "conversion")


@dataclass(frozen=True)
class Dataset:
    """All rows of a run, oldest first, and the parts that they fall into.

    Attributes:
        query: what it takes to build the set again, as JSON.
        sha256: of the rows.
        delta_version: of the table that holds it (`stored_set.py`); None before it is stored.
    """

    dataset_id: str
    query: Mapping[str, Any]
    sha256: str
    rows: Sequence[LabeledExample]
    delta_version: int | None = None

    def split(
        self, wanted: int = 0, after: datetime | None = None
    ) -> tuple[list[LabeledExample], list[LabeledExample], list[LabeledExample]]:
        """Return (train, newest held out, old held out), which share no request.

        `wanted` newest requests are held out, between the bounds above, but where enough are later
        than `after`, up to which the champion learned, none that are not. A request is a row, or
        all items that were ranked together. Which old ones are not trained on depends on their ids
        alone, so no later run trains on them; beyond what each span of time gives they are left
        out of everything.
        """
        requests = by_request(self.rows)
        few = min(len(self.rows), FEW)
        share = int(few * SHARE_OF_FEW + (len(self.rows) - few) * SHARE_BEYOND)
        bound = max(share * len(requests) // max(len(self.rows), 1), NEW_HOLDOUT_MIN)
        least = min(bound, NEW_HOLDOUT_LEAST)
        count = min(max(wanted, least, self._reach_of_rare(requests)), bound)
        if after is not None:
            later = sum(rows[0].event_time > after for rows in requests.values())
            count = min(count, max(later, least))
        count = min(count, len(requests) // 3)
        new = set(islice(reversed(requests), count))
        train: list[LabeledExample] = []
        newest: list[LabeledExample] = []
        held: list[LabeledExample] = []
        for row in self.rows:
            if row.request_id in new:
                newest.append(row)
            else:
                (held if _place(row.request_id) % 100 < OLD_HOLDOUT_PERCENT else train).append(row)
        return train, newest, _spread(held)

    def _reach_of_rare(self, requests: dict[str, list[LabeledExample]]) -> int:
        """How many of the newest requests hold NEW_HOLDOUT_RARE that have more than the commonest
        label; or 0."""
        counts = Counter(class_of(row.label) for row in self.rows)
        commonest = max(counts.items(), key=lambda one: one[1], default=("", 0))[0]
        rare = (
            at
            for at, rows in enumerate(reversed(requests.values()), 1)
            if any(class_of(row.label) != commonest for row in rows)
        )
        return next(islice(rare, NEW_HOLDOUT_RARE - 1, None), 0)


def by_request(rows: Iterable[LabeledExample]) -> dict[str, list[LabeledExample]]:
    """The rows of each request, in the order of their first rows."""
    found: defaultdict[str, list[LabeledExample]] = defaultdict(list)
    for row in rows:
        found[row.request_id].append(row)
    return found


def _place(request_id: str) -> int:
    return zlib.crc32(request_id.encode())


def _spread(rows: Sequence[LabeledExample]) -> list[LabeledExample]:
    """The rows of OLD_HOLDOUT_MAX requests at most: as many of each span that has as many."""
    if not rows:
        return []
    first = rows[0].event_time
    length = max((rows[-1].event_time - first) / OLD_SPANS, timedelta(microseconds=1))
    spans: defaultdict[int, list[str]] = defaultdict(list)
    for request_id, items in by_request(rows).items():
        span = (items[0].event_time - first) // length
        spans[min(span, OLD_SPANS - 1)].append(request_id)
    share = OLD_HOLDOUT_MAX // len(spans)
    kept = {one for span in spans.values() for one in sorted(span, key=_place)[:share]}
    return [row for row in rows if row.request_id in kept]


def compile_dataset(
    engine: Engine, claim: Claim, reader: FeatureReader, task: SetOf = "classification"
) -> Dataset:
    """Build the training set of a claim, by the label policies in force now.

    Args:
        task: `classification` has labels, `preference` pairs of answers of which one was preferred,
            and `generation` prompts with the text that was right: a correction, or an answer that
            was accepted (a positive thumbs, click, purchase or conversion).

    Raises:
        ModelError: there is no such task.
    """
    if task not in get_args(SetOf):
        raise ModelError(f"task: must be one of {', '.join(get_args(SetOf))}, got {task!r}")
    query = {
        "model": claim.model,
        "task": task,
        "feature_service": reader.service,
        "known_at": claim.known_at.isoformat(),
        "event_clock": claim.event_clock.isoformat(),
        **_policies(engine, claim.model, task),
        "recent": RECENT,
        "replay": REPLAY,
        "replay_from": hashlib.md5(claim.run_id.encode()).hexdigest(),
    }
    return build_dataset(engine, claim.run_id, query, reader)


def build_dataset(
    engine: Engine, dataset_id: str, query: Mapping[str, Any], reader: FeatureReader
) -> Dataset:
    """Build a set from the events, by the query that was recorded."""
    found = preference_rows if query["task"] == "preference" else label_rows
    rows = found(engine, query)
    features = _features(engine, query, rows, reader)
    examples = [
        _example(query["task"], row, known) for row, known in zip(rows, features, strict=True)
    ]
    return dataset_of(dataset_id, query, [one for one in examples if one is not None])


def dataset_of(
    dataset_id: str, query: Mapping[str, Any], rows: Sequence[LabeledExample]
) -> Dataset:
    """A set of these rows, with their hash."""
    return Dataset(dataset_id, query, _sha256(rows), rows)


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
        "delta_version": dataset.delta_version,
    }
    engine.dialect.put(connection, "control.datasets", ["dataset_id"], [record])


def _policies(engine: Engine, model: str, task: SetOf) -> dict[str, Any]:
    """The policies in force now by which feedback, or its absence, becomes a label.

    Rewards are no labels to a model whose task is to predict classes or numbers.
    """
    (terms,) = engine.rows(
        "select label_window::text, default_label from headrace.model_policies where model = %s",
        [model],
    )
    (told,) = engine.rows(
        "select task, positive_label from headrace.positive_labels where model = %s", [model]
    )
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
        order by defaults.kind
        """,
        [model],
    )
    wanted = {policy["kind"] for policy in kinds}
    if task == "generation":
        wanted, terms["default_label"] = {CORRECTION, *ACCEPTING}, None
    elif told["task"] in ("classification", "regression"):
        wanted = {CORRECTION, "label"}
    return {
        **terms,
        "label_policies": [policy for policy in kinds if policy["kind"] in wanted],
        "positive_label": told["positive_label"],
    }


def _features(
    engine: Engine, query: Mapping[str, Any], rows: Sequence[Row], reader: FeatureReader
) -> list[dict[str, Scalar]]:
    """The features of each row: as served with its prediction, else as they could be known then."""
    lacking = [row for row in rows if not row["features"].keys() >= set(reader.names)]
    looked_up = iter(_looked_up(engine, query, lacking, reader))
    features = []
    for row in rows:
        known = {} if row["features"].keys() >= set(reader.names) else next(looked_up)
        features.append({**known, **row["features"]})
    return features


def _looked_up(
    engine: Engine, query: Mapping[str, Any], rows: Sequence[Row], reader: FeatureReader
) -> list[dict[str, Scalar]]:
    if not rows:
        return []
    given: dict[str, Sequence[Mapping[str, Any]]] = {}
    of_segments = [
        view
        for view in reader.views
        if view.source == HISTORY and set(FEATURES) >= set(view.features)
    ]
    if of_segments:
        asked = [
            None
            if row["segment"] is None
            else Asked(row["segment"], row["event_time"], row["ingested_at"])
            for row in rows
        ]
        found = iter(known_then(engine, query, [one for one in asked if one]))
        unknown = dict.fromkeys(FEATURES)
        known = [next(found) if one else unknown for one in asked]
        given = {view.name: known for view in of_segments}
    frame = pd.DataFrame(
        {
            "model": query["model"],
            **{name: [row[name] for row in rows] for name in ("segment", "session_id", "item_id")},
            # of a preference user_id is who preferred
            "user_id": [row["asked_by"] for row in rows],
            "event_timestamp": [row["event_time"] for row in rows],
        }
    )
    table = reader.historical(frame, given)
    return [
        {
            name: value
            for name, value in zip(reader.names, values, strict=True)
            if value is None or isinstance(value, str | int | float)
        }
        for values in table[reader.names].to_numpy(dtype=object)
    ]


def _example(task: SetOf, row: Row, features: Mapping[str, Scalar]) -> LabeledExample | None:
    """An example; None where the row has no text to generate, or two answers that are the same."""
    label, rejected = row.get("label"), None
    if task == "preference":
        label = _answer(row["output"], row["prediction"])
        rejected = _answer(row["rejected_output"], row["rejected_prediction"])
    elif task == "generation" and row["kind"] != CORRECTION:
        label = _answer(row["output"], row["prediction"]) if _is_positive(label) else None
    if not label or label == rejected:
        return None
    return LabeledExample(
        row["request_id"],
        row["event_time"],
        row["known_at"],
        Example(input_text(row["input"]), row["segment"], features),
        label,
        item_id=row["item_id"],
        user_id=row["user_id"],
        position=row["position"],
        propensity=row["propensity"],
        kind=row["kind"],
        logged=_logged(row),
        rejected=rejected,
        rejected_request_id=row.get("rejected_request_id"),
    )


def _logged(row: Row) -> Logged | None:
    said = (row["prediction"], row["score"], row["probabilities"])
    return None if said == (None, None, None) else Logged(row["model_version"], *said)


def _answer(output: object, prediction: str | None) -> str:
    return input_text(output) or prediction or ""


def _is_positive(reward: str | None) -> bool:
    """Whether the label that a reward makes, its number, is above 0."""
    try:
        return float(reward or "") > 0
    except ValueError:
        return False


def _sha256(rows: Sequence[LabeledExample]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        line = [
            row.request_id, row.event_time.isoformat(), row.known_at.isoformat(),
            row.example.text, row.example.segment, dict(row.example.features), row.label,
            row.item_id, row.user_id, row.position, row.propensity, row.kind,
            row.logged and astuple(row.logged), row.rejected, row.rejected_request_id,
        ]  # fmt: skip
        digest.update(json.dumps(line, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()

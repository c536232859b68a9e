"""Training sets that were recorded: shown, compared, and rebuilt from the events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from psycopg.sql import SQL, Identifier

from headrace.engine import Engine
from headrace.errors import ModelError, one_line
from headrace.features.reader import FeatureReader
from headrace.model.examples import LabeledExample
from headrace.settings import FEATURE_SERVICE
from headrace.trainer.dataset import Dataset, build_dataset
from headrace.trainer.stored_set import read_stored

Key = tuple[str | None, ...]
SHOWN = 5  # rows
CHUNK = 5_000  # ids in one query


@dataclass(frozen=True)
class Record:
    """A row of ``control.datasets``."""

    dataset_id: str
    model: str
    known_at: datetime
    examples: int
    content_sha256: str
    query: Mapping[str, Any]
    delta_version: int | None


@dataclass(frozen=True)
class Differences:
    """How one set became another, row by row.

    Attributes:
        changed: the rows that both have, before and after, where they are not equal.
    """

    added: Sequence[LabeledExample]
    removed: Sequence[LabeledExample]
    changed: Sequence[tuple[LabeledExample, LabeledExample]]

    @property
    def changed_labels(self) -> int:
        return sum(before.label != after.label for before, after in self.changed)

    @property
    def changed_features(self) -> int:
        return sum(before.example != after.example for before, after in self.changed)

    def __str__(self) -> str:
        return (
            f"{len(self.added)} rows added, {len(self.removed)} removed, "
            f"{len(self.changed)} changed ({self.changed_labels} in the label, "
            f"{self.changed_features} in features or text)"
        )


def record_of(engine: Engine, run: str) -> Record:
    """Return what is recorded of the set of a run.

    Raises:
        ModelError: nothing is.
    """
    names = [field.name for field in fields(Record)]
    found = engine.rows(
        f"select {', '.join(names)} from control.datasets where dataset_id = %s", [run]
    )
    if not found:
        raise ModelError(
            f"run: must be a dataset_id of headrace.model_versions, or one of control.datasets, "
            f"got {run!r}"
        )
    return Record(**found[0])


def service_of(record: Record) -> str:
    """Return the feature service that a set was built with."""
    return str(record.query.get("feature_service", FEATURE_SERVICE))


def stored_dataset(engine: Engine, run: str) -> Dataset:
    """Return the set of a run as it was stored.

    Raises:
        ModelError: it was not stored, or its files are gone or other ones.
    """
    record = record_of(engine, run)
    if record.delta_version is None:
        raise ModelError(f"run: {run} is of an earlier version, which stored no rows")
    root = engine.settings.artifacts_path
    stored = read_stored(root, run, record.query, record.delta_version)
    if stored.sha256 != record.content_sha256:
        raise ModelError(
            f"run: version {record.delta_version} of the table must have the recorded hash "
            f"{record.content_sha256}, got {stored.sha256}"
        )
    return stored


def rebuild_dataset(engine: Engine, run: str, reader: FeatureReader) -> Dataset:
    """Build a recorded training set again, from the events alone.

    Raises:
        ModelError: there is no such set, the reader is of another service, or its content is no
            longer the same; the text says what differs from the stored rows, and what is missing of
            the events.
    """
    record = record_of(engine, run)
    if (service := service_of(record)) != reader.service:
        raise ModelError(f"run: {run} must be built with {service}, got {reader.service}")
    if "replay_from" not in record.query:
        raise ModelError(
            f"run: {run} is of an earlier version, which chose its rows in another way"
        )
    rebuilt = build_dataset(engine, run, record.query, reader)
    if rebuilt.sha256 == record.content_sha256:
        return rebuilt
    hashes = f"run: {run} must have the recorded hash {record.content_sha256}, got {rebuilt.sha256}"
    try:
        stored = stored_dataset(engine, run)
    except ModelError as error:
        raise ModelError(f"{hashes}; its rows cannot be compared: {one_line(error)}") from None
    changes = compare(stored, rebuilt)
    gone = _missing_events(engine, record.model, changes.removed)
    raise ModelError(
        f"{hashes}; against the stored version {record.delta_version} with {record.examples} rows: "
        f"{changes}{gone}"
    )


def compare(one: Dataset, other: Dataset) -> Differences:
    """Return how `one` became `other`."""
    before, after = _by_key(one.rows), _by_key(other.rows)
    return Differences(
        [row for key, row in after.items() if key not in before],
        [row for key, row in before.items() if key not in after],
        [(row, after[key]) for key, row in before.items() if key in after and row != after[key]],
    )


def summary(record: Record, dataset: Dataset) -> dict[str, Any]:
    """Return what to tell of a set: counts, times, hash and its first rows."""
    rows = dataset.rows
    return {
        "run": record.dataset_id,
        "model": record.model,
        "task": record.query.get("task"),
        "examples": record.examples,
        "known_at": record.known_at,
        "first_event_time": rows[0].event_time if rows else None,
        "last_event_time": rows[-1].event_time if rows else None,
        "sha256": record.content_sha256,
        "delta_version": record.delta_version,
        "labels": dict(Counter(row.label for row in rows).most_common(20)),
        "kinds": dict(Counter(row.kind for row in rows).most_common()),
        "versions": dict(
            Counter(row.logged.model_version for row in rows if row.logged).most_common(20)
        ),
        "first_rows": [asdict(row) for row in rows[:SHOWN]],
    }


def _by_key(rows: Sequence[LabeledExample]) -> dict[Key, LabeledExample]:
    """Rows by their prediction; of a preference also by who said it, and the how-manieth it is."""
    seen: Counter[Key] = Counter()
    found: dict[Key, LabeledExample] = {}
    for row in rows:
        voter = None if row.rejected is None else row.user_id
        key = (row.request_id, row.item_id, row.rejected_request_id, voter)
        found[*key, str(seen[key])] = row
        seen[key] += 1
    return found


def _missing_events(engine: Engine, model: str, removed: Sequence[LabeledExample]) -> str:
    """Say how many rows are gone because their events are."""
    ids = [row.request_id for row in removed]
    heard = [row.request_id for row in removed if row.kind != "default"]
    of_model = SQL("model = %s")
    predictions = len(set(ids) - _stored_ids(engine, "inference", of_model, [model], ids))
    feedback = len(set(heard) - _stored_ids(engine, "feedback", SQL("true"), [], heard))
    if not predictions and not feedback:
        return ""
    return (
        f"; of the removed ones {predictions} have no prediction in events.inference any more and "
        f"{feedback} no feedback in events.feedback: what was deleted cannot be rebuilt"
    )


def _stored_ids(
    engine: Engine, topic: str, condition: SQL, parameters: Sequence[Any], ids: Sequence[str]
) -> set[str]:
    found: set[str] = set()
    with engine.connect() as connection:
        for start in range(0, len(ids), CHUNK):
            among, values = engine.dialect.among(
                Identifier("request_id"), SQL("text"), ids[start : start + CHUNK]
            )
            query = SQL("select request_id from {} where {} and {}").format(
                Identifier("events", topic), condition, among
            )
            found |= {row[0] for row in connection.execute(query, [*parameters, *values])}
    return found

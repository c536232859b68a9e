"""Training sets on disk: one Delta table a model, in which each run's set is one version.

    ARTIFACTS/churn-3f2a…/datasets/                    read it with any client of Delta
                                   _delta_log/         whose set a version is, and its hash

A version holds the rows of one run, replacing those of the version before; old ones stay. Which
version counts is recorded in `control.datasets`, so one that was written by a run that never
published is harmless. Features and probabilities are JSON, which keeps 1 apart from 1.0 and true,
and a feature that is null apart from one that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from headrace.errors import ModelError, one_line
from headrace.files import sync
from headrace.model.artifact import folder_name
from headrace.model.examples import LabeledExample, Logged
from headrace.model.inputs import Example
from headrace.trainer.dataset import Dataset, dataset_of

# An explicit schema: a column without values would be of type void, and a whole number that comes
# first would make a column of floats one of integers.
SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("event_time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("known_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("segment", pa.string()),
        pa.field("features", pa.string(), nullable=False),  # JSON
        pa.field("label", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("item_id", pa.string()),
        pa.field("user_id", pa.string()),
        pa.field("position", pa.int64()),
        pa.field("propensity", pa.float64()),
        pa.field("rejected", pa.string()),
        pa.field("rejected_request_id", pa.string()),
        # as it was logged; without a version nothing was
        pa.field("model_version", pa.string()),
        pa.field("prediction", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("probabilities", pa.string()),  # JSON
    ]
)
# Old versions can be read for ever: their log is not cleaned up after a month, as is the default.
# And it holds no texts, as the smallest and greatest of a column would be.
KEEP = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.dataSkippingNumIndexedCols": "0",
    "delta.logRetentionDuration": "interval 36500 days",
}
RECENT = 20  # versions among which a repeated attempt looks for its own
# Of several trainers that write at once one is first, and the others try again.
ATTEMPTS, FIRST_PAUSE_S, LONGEST_PAUSE_S = 20, 0.05, 2.0


def table_path(root: Path, model: str) -> Path:
    """Return the folder of a model's table, under the folder of all artifacts."""
    return root / folder_name(model) / "datasets"


def store(root: Path, dataset: Dataset) -> Dataset:
    """Write a set as a version of its model's table, synced to disk; return it with that version.

    A set that an earlier attempt of its run has written is not written again.

    Raises:
        ModelError: the table cannot be written.
    """
    path = table_path(root, dataset.query["model"])
    try:
        for attempt in Retrying(
            retry=retry_if_exception(_was_overtaken),
            wait=wait_random_exponential(FIRST_PAUSE_S, LONGEST_PAUSE_S),
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        ):
            with attempt:
                version = _version_of(path, dataset)
    except DeltaError as error:
        raise ModelError(
            f"the training set cannot be stored in {path}: {one_line(error)}"
        ) from None
    return replace(dataset, delta_version=version)


def _version_of(path: Path, dataset: Dataset) -> int:
    """The version that holds a set: an earlier attempt's, or the next one, written here.

    Raises:
        DeltaError: `_was_overtaken` says whether it is worth another try. (deltalake's own tries
            put two sets into one version, where the table was empty before.)
    """
    told = {"dataset_id": dataset.dataset_id, "sha256": dataset.sha256}
    table = DeltaTable(path) if DeltaTable.is_deltatable(str(path)) else None
    version = None if table is None else _written(path, table.version(), told)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    if version is None:
        path.mkdir(parents=True, exist_ok=True)
        version = 0 if table is None else table.version() + 1
        write_deltalake(
            path if table is None else table,
            _arrow(dataset),
            mode="error" if table is None else "overwrite",
            configuration=KEEP,
            commit_properties=CommitProperties(custom_metadata=told, max_commit_retries=0),
            post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
        )
    _sync(path, version)
    for folder in made:
        sync(folder.parent)
    return version


def read_stored(
    root: Path, dataset_id: str, query: Mapping[str, Any], delta_version: int
) -> Dataset:
    """Return a set as it was stored; its hash is computed anew.

    Raises:
        ModelError: there is no such version, or it is another run's.
    """
    path = table_path(root, query["model"])
    try:
        table = DeltaTable(path, version=delta_version)
        owner = _told(path, delta_version).get("dataset_id")
        if owner != dataset_id:
            raise ModelError(
                f"delta_version: version {delta_version} of {path} must hold {dataset_id}, "
                f"got {owner}"
            )
        rows = table.to_pyarrow_table().sort_by("row").to_pylist()
    except (DeltaError, OSError) as error:
        raise ModelError(
            f"version {delta_version} of {path} cannot be read: {one_line(error)}"
        ) from None
    stored = dataset_of(dataset_id, query, [_example(row) for row in rows])
    return replace(stored, delta_version=delta_version)


def _was_overtaken(error: BaseException) -> bool:
    """Whether another trainer has written the version, or made the table, first."""
    return isinstance(error, CommitFailedError) or (
        isinstance(error, DeltaError) and "table already exists" in str(error)
    )


def _written(path: Path, last: int, told: Mapping[str, str]) -> int | None:
    """The newest of the RECENT versions up to the last one that says this of itself."""
    for version in range(last, max(last - RECENT, -1), -1):
        if told.items() <= _told(path, version).items():
            return version
    return None


def _told(path: Path, version: int) -> dict[str, Any]:
    """What a commit says of itself. (`DeltaTable.history` begins with the last one, whichever the
    version, and numbers it as if it were the first.)
    """
    with _log(path, version).open() as lines:
        said = [action["commitInfo"] for action in map(json.loads, lines) if "commitInfo" in action]
    return dict(said[0]) if said else {}


def _log(path: Path, version: int) -> Path:
    return path / "_delta_log" / f"{version:020}.json"


def _sync(path: Path, version: int) -> None:
    """Have the disk hold a version of a table."""
    log = _log(path, version)
    for place in [*map(Path, DeltaTable(path, version=version).file_uris()), log, log.parent, path]:
        sync(place)


def _arrow(dataset: Dataset) -> pa.Table:
    return pa.Table.from_pylist(
        [_flat(number, row) for number, row in enumerate(dataset.rows)], schema=SCHEMA
    )


def _flat(number: int, row: LabeledExample) -> dict[str, Any]:
    logged = row.logged
    return {
        "row": number,
        "request_id": row.request_id,
        "event_time": row.event_time,
        "known_at": row.known_at,
        "text": row.example.text,
        "segment": row.example.segment,
        "features": json.dumps(dict(row.example.features)),
        "label": row.label,
        "kind": row.kind,
        "item_id": row.item_id,
        "user_id": row.user_id,
        "position": row.position,
        "propensity": row.propensity,
        "rejected": row.rejected,
        "rejected_request_id": row.rejected_request_id,
        "model_version": logged and logged.model_version,
        "prediction": logged and logged.prediction,
        "score": logged and logged.score,
        "probabilities": json.dumps(logged.probabilities)
        if logged and logged.probabilities is not None
        else None,
    }


def _example(row: Mapping[str, Any]) -> LabeledExample:
    logged = None
    if row["model_version"] is not None:
        probabilities = row["probabilities"] and json.loads(row["probabilities"])
        logged = Logged(row["model_version"], row["prediction"], row["score"], probabilities)
    return LabeledExample(
        row["request_id"],
        row["event_time"],
        row["known_at"],
        Example(row["text"], row["segment"], json.loads(row["features"])),
        row["label"],
        item_id=row["item_id"],
        user_id=row["user_id"],
        position=row["position"],
        propensity=row["propensity"],
        kind=row["kind"],
        logged=logged,
        rejected=row["rejected"],
        rejected_request_id=row["rejected_request_id"],
    )

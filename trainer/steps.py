"""Versions that follow from the champion in one step: online updates, and corrections by hand.

They are called v4.1, v4.2, … after the version that a run trained. Like any other they are a folder
and a `promoted` event, which `headrace rollback` takes back. Their metrics are those of the version
that they come from, and what the step adds.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headrace.control.lifecycle import next_event
from headrace.engine import Engine
from headrace.errors import ModelError
from headrace.events.contract import input_text
from headrace.events.log import row_writer
from headrace.events.rows import event_row
from headrace.model.artifact import (
    JUDGED,
    Manifest,
    Run,
    artifact_path,
    draft_folder,
    family,
    publish_draft,
    read_manifest,
)
from headrace.model.corrections import input_key
from headrace.model.inputs import Example

MOST_CORRECTIONS = 1_000


@dataclass(frozen=True, slots=True)
class Base:
    """The champion that a step starts from; `event_id` is of its promotion, if this is a step."""

    model: str
    model_version: str
    folder: Path
    manifest: Manifest
    metrics: Mapping[str, Any]
    event_id: str = ""


def champion_of(engine: Engine, model: str) -> Base | None:
    """Return the champion; None where there is none that Headrace has trained.

    Raises:
        ModelError: its folder cannot be read.
    """
    rows = engine.rows(
        "select plan.model_version, plan.artifact_uri, champions.metrics "
        "from headrace.serving_plan as plan inner join headrace.champions as champions "
        "on plan.model = champions.model and plan.model_version = champions.model_version "
        "where plan.model = %s and plan.variant = 'champion'",
        [model],
    )
    if not rows or not re.fullmatch(r"v[0-9]+", family(rows[0]["model_version"])):
        return None
    folder = artifact_path(rows[0]["artifact_uri"], engine.settings.artifacts_path)
    return Base(
        model, rows[0]["model_version"], folder, read_manifest(folder), rows[0]["metrics"] or {}
    )


def publish_step(
    engine: Engine,
    base: Base,
    make: Callable[[Path], Manifest],
    *,
    reason: str,
    metrics: Mapping[str, Any] | None = None,
) -> Base:
    """Write a version into a folder by `make`, let it serve, and return it.

    Raises:
        ModelError: the log refuses its event.
        OSError: the folder cannot be written.
        psycopg.Error: the database is away; the version may serve or not.
    """
    version = _next(engine, base)
    root = engine.settings.artifacts_path
    run = Run(f"step-{version}", os.getpid())
    with draft_folder(root, base.model, run) as draft:
        manifest = make(draft)
        card = f"# {base.model} {version}\n\nIt follows from {base.model_version}: {reason}.\n"
        place = publish_draft(draft, base.model, version, manifest, card)
    merged = {**base.metrics, **(metrics or {})}
    event = next_event(
        engine,
        base.model,
        model_version=version,
        event="promoted",
        parent_version=base.model_version,
        artifact_uri=place.as_uri(),
        metrics=merged,
        reason=reason,
    )
    row = event_row("model_events", event)
    with closing(row_writer(engine)) as writer:
        writer.write([row])
    if row.receipt is not None and row.receipt.status == "rejected":
        shutil.rmtree(place, ignore_errors=True)
        raise ModelError(f"the event of {version} was rejected: {row.receipt.reason}")
    return Base(base.model, version, place, manifest, merged, row.id)


def correct(engine: Engine, model: str, request_id: str, label: str) -> str:
    """Have the champion answer `label` to the input of a request; return the new version.

    Raises:
        ModelError: there is no such request, or the champion has no such label.
    """
    base = champion_of(engine, model)
    if base is None:
        raise ModelError(f"model: {model!r} has no version that Headrace trained")
    if label not in base.manifest.labels:
        labels = ", ".join(base.manifest.labels) or "none, as it is no classifier"
        raise ModelError(f"label: must be one of {labels}, got {label!r}")
    asked = engine.rows(
        "select segment, features, input, item_id, user_id from events.inference "
        "where request_id = %s and model = %s limit 1",
        [request_id, model],
    )
    if not asked:
        raise ModelError(f"request_id: {model!r} has no request {request_id!r}")
    key = input_key(example_of(asked[0]))
    known = {**base.manifest.corrections, key: label}
    if len(known) > MOST_CORRECTIONS:
        raise ModelError(f"{model} has {MOST_CORRECTIONS} corrections: let it be trained on them")

    def make(draft: Path) -> Manifest:
        copy_weights(base.folder, draft)
        return msgspec.structs.replace(base.manifest, corrections=known)

    reason = f"the answer to {request_id} was set to {label}"
    return publish_step(engine, base, make, reason=reason).model_version


def copy_weights(folder: Path, draft: Path) -> None:
    """Put what a recipe wrote into a draft, without a copy where the file system has links.

    A step was not judged as its parent was, so that is left out.
    """
    for path in folder.rglob("*"):
        target = draft / path.relative_to(folder)
        if JUDGED in target.relative_to(draft).parts:
            continue
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif path.name not in ("version.json", "README.md"):
            try:
                target.hardlink_to(path)
            except OSError:
                shutil.copyfile(path, target)


def example_of(row: Mapping[str, Any]) -> Example:
    """Return the example of a row with `input`, `segment`, `features` and ids of an inference."""
    return Example(
        input_text(row["input"]),
        row["segment"],
        row["features"] or {},
        row["item_id"],
        row["user_id"],
    )


def _next(engine: Engine, base: Base) -> str:
    """The first free name after the base's; steps that were rolled back keep theirs."""
    root = family(base.model_version)
    (row,) = engine.rows(
        "select max(split_part(model_version, '.', 2)::bigint) as step from events.model_events "
        "where model = %s and model_version ~ %s",
        [base.model, f"^{root}[.][0-9]{{1,9}}$"],
    )
    return f"{root}.{(row['step'] or 0) + 1}"

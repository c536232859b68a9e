"""Publishing: a folder that appears whole, and then the event that makes it count."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.errors import ModelError
from headrace.events.contract import ModelEvent, parse
from headrace.events.log import EventLog
from headrace.trainer.finetune import FinetuneResult


def next_version(engine: Engine, model: str) -> str:
    """Return the first free name of the form v1, v2, …; names that others used stay theirs."""
    rows = engine.rows(
        """
        select model_version from headrace.model_versions where model = %(model)s
        union
        select model_version from panes.model_activity where model = %(model)s
        """,
        {"model": model},
    )
    used = {row["model_version"] for row in rows}
    counted = [int(name[1:]) for name in used if re.fullmatch(r"v[0-9]{1,9}", name)]
    number = max(counted, default=0) + 1
    while f"v{number}" in used:
        number += 1
    return f"v{number}"


def write_artifact(
    folder: Path,
    model: str,
    model_version: str,
    result: FinetuneResult,
    card: Mapping[str, Any],
) -> Path:
    """Write the version's folder beside its place and move it there in one step.

    A folder of that name without an event was left by a trainer that died: it is replaced. The
    folder of a model has a file ``model.json`` with its name.

    Raises:
        ModelError: the version has another name than `next_version` gives.
    """
    if not re.fullmatch(r"v[0-9]+", model_version):
        raise ModelError(f"model_version: must be v1, v2, … to be published, got {model_version!r}")
    place = folder / folder_name(model) / model_version
    draft = place.with_name(f".{model_version}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    result.save(draft, model_version)
    config = json.loads((draft / "config.json").read_text())
    config["positive_label"] = card["positive_label"]
    (draft / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (draft / "README.md").write_text(model_card(model, model_version, card), encoding="utf-8")
    name = json.dumps({"model": model}, ensure_ascii=False)
    (place.parent / "model.json").write_text(name + "\n", encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    draft.rename(place)
    return place.resolve()


def folder_name(model: str) -> str:
    """Return the name of a model's folder: what can be read of its name, and a hash of all of it.

    Whatever the model is called, this is one short name of letters, digits, dashes and
    underscores, another one for each model also where a file system takes A for a.
    """
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", model)[:40].strip("-")
    digest = hashlib.blake2b(model.encode(), digest_size=10).hexdigest()
    return f"{readable}-{digest}" if readable else digest


def announce(
    log: EventLog,
    claim: Claim,
    model_version: str,
    *,
    promoted: bool,
    parent: str | None,
    artifact: Path | None,
    metrics: Mapping[str, Any],
    reason: str,
) -> None:
    """Write the events that end a run: trained and promoted in one commit, or rejected.

    Raises:
        ContractError: what the run says of itself is no event.
        ModelError: the database, or Kafka, does not take it.
    """
    receipts = log.append(
        "model_events",
        [
            _event(claim, model_version, name, parent, artifact, metrics, reason)
            for name in (("trained", "promoted") if promoted else ("rejected",))
        ],
    )
    for receipt in receipts:
        if receipt.status == "rejected":
            raise ModelError(f"the events of the run were rejected: {receipt.reason}")


def _event(
    claim: Claim,
    model_version: str,
    name: str,
    parent: str | None,
    artifact: Path | None,
    metrics: Mapping[str, Any],
    reason: str,
) -> ModelEvent:
    event = parse(
        "model_events",
        {
            "model": claim.model,
            "model_version": model_version,
            "event": name,
            "event_time": claim.event_clock.isoformat(),
            "run_id": claim.run_id,
            "trigger_id": claim.trigger_id,
            "dataset_id": claim.run_id,
            "parent_version": parent,
            "artifact_uri": artifact.as_uri() if artifact and name == "promoted" else None,
            "metrics": dict(metrics) if name != "promoted" else {},
            "reason": reason,
        },
    )
    assert isinstance(event, ModelEvent)
    return event


def model_card(model: str, model_version: str, card: Mapping[str, Any]) -> str:
    """Return the README of a version: what it is, what it learned from, how it was judged."""
    trained: datetime = card["event_clock"]
    rows = "\n".join(
        f"| {name} | {_cell(candidate)} | {_cell(card['champion'].get(name))} |"
        for name, candidate in card["candidate"].items()
    )
    return f"""\
---
library_name: peft
base_model: sentence-transformers/all-MiniLM-L6-v2
license: apache-2.0
pipeline_tag: text-classification
---
# {model} {model_version}

A classifier with the labels {", ".join(f"`{label}`" for label in card["labels"])}; `score` is the
probability of `{card["positive_label"]}`. It goes on from {card["parent"] or "the base model"}.

- **Learned from** {card["examples"]} labelled examples, dataset `{card["dataset_id"]}`
  (sha256 `{card["dataset_sha256"]}`), labels as known at {trained:%Y-%m-%d %H:%M} UTC.
- **Judged on** the newest {card["candidate"].get("n", 0):.0f} examples, which it did not see:

| metric | {model_version} | {card["parent"] or "no version"} |
|---|---|---|
{rows}

- **Verdict**: {card["reason"]}
- **Meant for** the requests of `{model}`; other inputs were not tried. It repeats what people
  decided, mistakes included.
"""


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, int | float) else str(value)

"""Publishing: the one write of a run. Its last step, the events, makes it count."""

from __future__ import annotations

import re
from dataclasses import replace

from headrace.control.claims import Claim
from headrace.engine import Engine
from headrace.errors import ModelError
from headrace.events.contract import ModelEvent, parse
from headrace.events.log import EventLog
from headrace.model.artifact import save_version
from headrace.trainer.dataset import record_dataset
from headrace.trainer.run import Candidate, Outcome


def publish(engine: Engine, log: EventLog, claim: Claim, outcome: Outcome) -> Outcome:
    """Write what a run came to, and return it with the name of its version.

    That is the record of its dataset, the promoted artifact, and the events.

    A trainer that dies in between leaves a record and a folder, which the one that takes the
    claim over replaces. The events, `trained` and `promoted` or else `rejected`, are one commit.

    Raises:
        OSError: the artifact cannot be written.
        ContractError: what the run says of itself is no event.
        ModelError: the log refuses the events.
    """
    version = outcome.model_version or next_version(engine, claim.model)
    outcome = replace(outcome, model_version=version)
    if outcome.dataset is not None:
        record_dataset(engine, claim, outcome.dataset)
    uri = None
    if outcome.promoted and outcome.candidate is not None:
        place = save_version(
            engine.settings.artifacts_path,
            claim.model,
            version,
            outcome.candidate.artifact,
            model_card(claim, outcome, outcome.candidate),
        )
        uri = place.as_uri()
    names = ("trained", "promoted") if outcome.promoted else ("rejected",)
    events = [_event(claim, outcome, name, uri) for name in names]
    for receipt in log.append("model_events", events):
        if receipt.status == "rejected":
            raise ModelError(f"the events of the run were rejected: {receipt.reason}")
    return outcome


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


def _event(claim: Claim, outcome: Outcome, name: str, uri: str | None) -> ModelEvent:
    event = parse(
        "model_events",
        {
            "model": claim.model,
            "model_version": outcome.model_version,
            "event": name,
            "event_time": claim.event_clock.isoformat(),
            "run_id": claim.run_id,
            "trigger_id": claim.trigger_id,
            "dataset_id": claim.run_id,
            "parent_version": outcome.parent,
            "artifact_uri": uri if name == "promoted" else None,
            "metrics": dict(outcome.metrics) if name != "promoted" else {},
            "reason": outcome.reason,
        },
    )
    assert isinstance(event, ModelEvent)
    return event


def model_card(claim: Claim, outcome: Outcome, candidate: Candidate) -> str:
    """Return the README of a version: what it is, what it learned from, how it was judged."""
    artifact, rival = candidate.artifact, candidate.rival.to_dict()
    rows = "\n".join(
        f"| {name} | {_cell(value)} | {_cell(rival[name])} |"
        for name, value in candidate.holdout.to_dict().items()
    )
    positive = f"`{artifact.positive_label}`" if artifact.positive_label else "the predicted label"
    sha256 = outcome.dataset.sha256 if outcome.dataset else ""
    return f"""\
---
library_name: peft
base_model: sentence-transformers/all-MiniLM-L6-v2
license: apache-2.0
pipeline_tag: text-classification
---
# {claim.model} {outcome.model_version}

A classifier with the labels {", ".join(f"`{label}`" for label in artifact.labels)}; `score` is the
probability of {positive}. Its parent is {outcome.parent or "the base model"}.

- **Learned from** {artifact.report["examples"]} labelled examples, dataset `{claim.run_id}`
  (sha256 `{sha256}`), labels as known at
  {claim.event_clock:%Y-%m-%d %H:%M} UTC.
- **Judged on** the newest {candidate.holdout.n} examples, which it did not see:

| metric | {outcome.model_version} | {outcome.parent or "no version"} |
|---|---|---|
{rows}

- **Verdict**: {outcome.reason}
- **Meant for** the requests of `{claim.model}`; other inputs were not tried. It repeats what people
  decided, mistakes included.
"""


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

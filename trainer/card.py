"""The README of a version: what it is, what it learned from, how it was judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace.control.claims import Claim
from headrace.trainer.run import Candidate, Outcome

PIPELINES = {
    "classification": "text-classification",
    "regression": "tabular-regression",
    "generation": "text-generation",
}


def model_card(claim: Claim, outcome: Outcome, candidate: Candidate) -> str:
    """Return the model card in Hugging Face's form."""
    manifest = candidate.manifest
    report = dict(manifest.report)
    parts = report.pop("parts", None)
    sampling = report.pop("sampling", {})
    rows = "\n".join(
        f"| {name} | {_cell(value)} | {_cell(candidate.rival.get(name))} |"
        for name, value in candidate.holdout.items()
    )
    labels = ", ".join(f"`{label}`" for label in manifest.labels)
    what = f"A {manifest.task} model of the recipe `{manifest.recipe}`"
    if manifest.labels:
        positive = manifest.positive_label
        scored = f"`{positive}`" if positive else "the predicted label"
        what += f", with the labels {labels}; `score` is the probability of {scored}"
    seen = "learned only after that" if "completed" in report else "did not see"
    sha256 = outcome.dataset.sha256 if outcome.dataset else ""
    return f"""\
---
pipeline_tag: {PIPELINES.get(manifest.task, "other")}
---
# {claim.model} {outcome.model_version}

{what}. Its parent is {outcome.parent or "the base model"}.

- **Learned from** {outcome.metrics["examples"]} labelled examples, dataset `{claim.run_id}`
  (sha256 `{sha256}`), labels as known at
  {claim.event_clock:%Y-%m-%d %H:%M} UTC, features of the service `{manifest.feature_service}`.
- **Judged on** the newest {candidate.holdout["n"]} examples, which it {seen}:

| metric | {outcome.model_version} | {outcome.parent or "no version"} |
|---|---|---|
{rows}

- **Verdict**: {outcome.reason}
- **Training**: {", ".join(f"{name} {_cell(value)}" for name, value in report.items())}
- **Sampling**: {_sampling(sampling)}
{_parts(parts)}- **Meant for** the requests of `{claim.model}`; other inputs were not tried. It
  repeats what people decided, mistakes included.
"""


def _sampling(report: Mapping[str, Any]) -> str:
    """Which examples were trained on, in counts."""
    said = [f"{name} {_cell(value)}" for name, value in report.items() if name != "flagged"]
    return ", ".join(said).replace("_", " ")


def _parts(parts: object) -> str:
    """What each part of the model gained, as the recipe measured it."""
    if not isinstance(parts, dict):
        return ""
    return "".join(f"- **Part** {name}: {_cell(value)}\n" for name, value in parts.items())


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

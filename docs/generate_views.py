"""Write docs/views.md, the catalogue of views, from the .yml files of the dbt models.

Run ``python docs/generate_views.py`` after changing a view; a test fails while the page is stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "dbt_project" / "models"
PAGE = ROOT / "docs" / "views.md"

GROUPS = {
    "training": "What a model can learn from, and what still waits for a label.",
    "performance": "How good each version is.",
    "drift": "How far input, output, labels and the error have moved.",
    "triggers": "When to train or roll back, what needs attention, and the thresholds that decide.",
    "rollout": "Which versions there are, which of them serve, and which should.",
    "experiments": "What was tried, and what another policy would have earned.",
    "flywheel": "Whether the loop turns, and what it is worth.",
    "latency": "How fast the loop turns.",
    "quality": "What came in, what was refused, and whether the data is still sound.",
    "features": "What Feast serves, online and for training.",
}
LAYERS = {
    "panes": "Small mergeable aggregates that the marts are made of, kept in the transaction that "
    "ingests (schema `panes`). An example that was revised may leave a row of 0 behind.",
    "staging": "The topics with their names and types: part of the views above them, no views of "
    "their own.",
}
INTRODUCTION = """\
# The view catalogue

<!-- Made by docs/generate_views.py from dbt_project/models/**/*.yml: change those. -->

Everything that people read is here. Query the marts with `headrace psql` or any PostgreSQL client,
for example `select * from headrace.retrain_trigger`. On PostgreSQL the descriptions are comments
of the database, too. The panes and the staging layer are what the marts are made of, and may
change.

*Grain* says what a row is, *key* which columns name it, *lateness* what a late event does to it.
A unit of *UTC* is a point in time, *rows* a count of events, *share* a number from 0 to 1.
"""


def models(layer: str) -> list[dict[str, Any]]:
    """Return the models of one layer as their .yml files describe them, by name."""
    found = []
    for path in sorted((MODELS / layer).glob("*.yml")):
        found += yaml.safe_load(path.read_text()).get("models", [])
    return found


def render() -> str:
    """Return the whole page."""
    marts = models("marts")
    parts = [INTRODUCTION, _contents(marts)]
    for group, meaning in GROUPS.items():
        parts.append(f"## {group.capitalize()}\n\n{meaning}\n")
        parts += [_view("headrace", model) for model in marts if _meta(model).get("group") == group]
    for layer, meaning in LAYERS.items():
        parts.append(f"## {layer.capitalize()}\n\n{meaning}\n")
        parts += [_view(layer, model) for model in models(layer)]
    return "\n".join(parts)


def _contents(marts: list[dict[str, Any]]) -> str:
    lines = ["| group | views |", "|---|---|"]
    for group in GROUPS:
        names = [model["name"] for model in marts if _meta(model).get("group") == group]
        links = ", ".join(f"[`{name}`](#headrace{name})" for name in names)
        lines.append(f"| {group} | {links} |")
    return "\n".join(lines) + "\n"


def _view(schema: str, model: dict[str, Any]) -> str:
    meta = _meta(model)
    lines = [
        f"### headrace.{model['name']}" if schema == "headrace" else f"### {model['name']}",
        "",
        " ".join(model["description"].split()),
        "",
        f"Grain: {meta['grain']}. Key: `{', '.join(_key(model))}`. Lateness: {meta['lateness']}.",
        "",
        "| column | type | unit | meaning |",
        "|---|---|---|---|",
    ]
    for column in model["columns"]:
        unit = column.get("config", {}).get("meta", {}).get("unit", "")
        cells = (f"`{column['name']}`", column["data_type"], unit, column["description"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _meta(model: dict[str, Any]) -> dict[str, str]:
    meta: dict[str, str] = model.get("config", {}).get("meta", {})
    if missing := [name for name in ("grain", "lateness") if not meta.get(name)]:
        raise SystemExit(f"{model['name']}: config.meta lacks {', '.join(missing)} in its .yml")
    return meta


def _key(model: dict[str, Any]) -> list[str]:
    """Return the columns that the model's unique_key test holds it to."""
    for test in model.get("data_tests", []):
        if "unique_key" in test:
            columns: list[str] = test["unique_key"]["arguments"]["columns"]
            return columns
    raise SystemExit(f"{model['name']}: no unique_key test in its .yml")


if __name__ == "__main__":
    PAGE.write_text(render())

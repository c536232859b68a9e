"""Write docs/schemas/*.json, the JSON Schemas of each topic's messages and of headrace.toml.

Run ``python docs/generate_schemas.py`` after changing the contract or a recipe's settings; a test
fails until then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from headrace.declared import toml_schema
from headrace.events.contract import STRUCTS
from headrace.events.values import MAX_TEXT, max_bytes

FOLDER = Path(__file__).resolve().parent / "schemas"


def schemas() -> dict[str, str]:
    """Return the text of each schema by file name."""
    topics = {f"{topic}.json": _render(topic) for topic in STRUCTS}
    return {**topics, "headrace.toml.json": json.dumps(toml_schema(), indent=2) + "\n"}


def _render(topic: str) -> str:
    struct = STRUCTS[topic]  # type: ignore[index]
    schema: dict[str, Any] = msgspec.json.schema(struct)["$defs"][struct.__name__]
    schema["description"] = " ".join(schema["description"].split())
    for name, definition in schema["properties"].items():
        definition.pop("default", None)
        for form in definition.get("anyOf", [definition]):
            if form.get("type") == "string":
                form |= _limit(name)
    # A time is RFC 3339 text.
    schema["properties"]["event_time"] = {
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]
    }
    top = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": topic}
    return json.dumps({**top, **{k: v for k, v in schema.items() if k != "title"}}, indent=2) + "\n"


def _limit(name: str) -> dict[str, Any]:
    """Return the limit of a text. JSON Schema counts characters: never more than the bytes."""
    if name in ("error", "reason"):
        return {"maxLength": MAX_TEXT}
    most = max_bytes(name)
    return {"maxLength": most, "description": f"at most {most} bytes in UTF-8"}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in schemas().items():
        (FOLDER / name).write_text(text)

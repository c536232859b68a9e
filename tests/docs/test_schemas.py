"""The published JSON Schemas follow the contract and accept every event that it accepts."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

from hypothesis import given
from jsonschema import Draft202012Validator

from headrace.errors import ContractError
from headrace.events.contract import Topic, parse
from tests.support.payloads import payloads

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "schemas"
GENERATOR = runpy.run_path(str(FOLDER.parent / "generate_schemas.py"))
SCHEMAS: dict[str, Any] = {
    path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")
}


def test_they_are_fresh() -> None:
    stored = {path.name: path.read_text() for path in FOLDER.glob("*.json")}
    assert stored == GENERATOR["schemas"](), "run python docs/generate_schemas.py"
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


@given(payloads())
def test_what_the_contract_accepts_is_valid(case: tuple[Topic, dict[str, Any]]) -> None:
    topic, payload = case
    try:
        parse(topic, payload)
    except ContractError:
        return
    Draft202012Validator(SCHEMAS[topic]).validate(payload)

"""Every view and column is described, with its real name and type, and docs/views.md says so."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from headrace.engine import Engine
from tests.support.comments import comments

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "dbt_project" / "models"
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_views.py"))
LAYERS = {"marts": "headrace", "panes": "panes"}


def described() -> list[Any]:
    return [
        pytest.param(layer, model, id=model["name"])
        for layer in ("marts", "panes", "staging")
        for model in GENERATOR["models"](layer)
    ]


def test_page_is_fresh() -> None:
    page = (ROOT / "docs" / "views.md").read_text()
    assert page == GENERATOR["render"](), "run python docs/generate_views.py"


@pytest.mark.parametrize("layer", ["marts", "panes", "staging"])
def test_every_model_has_its_yml(layer: str) -> None:
    written = {path.stem for path in (MODELS / layer).glob("*.sql")}
    assert written == {model["name"] for model in GENERATOR["models"](layer)}


@pytest.mark.parametrize(("layer", "model"), described())
def test_everything_is_described(layer: str, model: dict[str, Any]) -> None:
    meta = model["config"]["meta"]
    assert model["description"].strip()
    assert meta["grain"] and meta["lateness"]
    assert layer != "marts" or meta.get("group") in GENERATOR["GROUPS"]
    for column in model["columns"]:
        assert column["description"].rstrip().endswith("."), column["name"]
        assert column["data_type"], column["name"]


@pytest.mark.parametrize(("layer", "model"), described())
def test_timestamps_counts_and_times_have_a_unit(layer: str, model: dict[str, Any]) -> None:
    units = {
        column["name"]: column.get("config", {}).get("meta", {}).get("unit")
        for column in model["columns"]
        if column["data_type"] in ("timestamptz", "bigint", "double precision")
    }
    missing = [name for name, unit in units.items() if not unit and not name.endswith("_id")]
    assert missing == [], layer


def test_columns_are_the_real_ones(engine: Engine) -> None:
    rows = engine.rows(
        """
        select nspname, relname, attname, format_type(atttypid, atttypmod) as type
        from pg_attribute
        join pg_class on pg_class.oid = attrelid
        join pg_namespace on pg_namespace.oid = relnamespace
        where nspname in ('headrace', 'panes') and relkind in ('v', 'r')
            and attnum > 0 and not attisdropped
        order by nspname, relname, attnum
        """
    )
    real: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        type_ = row["type"].replace("timestamp with time zone", "timestamptz")
        real.setdefault((row["nspname"], row["relname"]), []).append((row["attname"], type_))
    documented = {
        (schema, model["name"]): [(c["name"], c["data_type"]) for c in model["columns"]]
        for layer, schema in LAYERS.items()
        for model in GENERATOR["models"](layer)
    }
    assert documented == real


def test_descriptions_are_comments_in_the_database(engine: Engine) -> None:
    described = {
        (schema, model["name"], column): " ".join(text.split())
        for layer, schema in LAYERS.items()
        for model in GENERATOR["models"](layer)
        for column, text in [
            ("", model["description"]),
            *((column["name"], column["description"]) for column in model["columns"]),
        ]
    }
    assert comments(engine) == described

"""`headrace.toml`: what may stand in it, and what comes of it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from headrace.control import policies
from headrace.declared import Declared, Gate, apply, chosen, read_declared, toml_schema
from headrace.engine import Engine
from headrace.errors import ContractError, SettingError

GOOD = """
[models.churn]
recipe = "tabular"
task = "classification"
features = ["bill", "plan"]
[models.churn.config]
steps = 50
[models.churn.gate]
metric = "auc"
min_improvement = 0.01
[models.watched-closely]
"""
SCHEMA = Draft202012Validator(toml_schema())


def read(tmp_path: Path, text: str) -> dict[str, Declared]:
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    return read_declared(file)


def test_what_is_not_given_has_its_default(tmp_path: Path) -> None:
    declared = read(tmp_path, GOOD)
    assert [*declared] == ["churn", "watched-closely"]
    assert declared["watched-closely"] == Declared()
    recipe, config = chosen(declared["churn"])
    assert (config.steps, config.batch_size) == (50, recipe.Config().batch_size)
    assert declared["churn"].gate == Gate(metric="auc", min_improvement=0.01)
    assert read_declared(tmp_path / "none.toml") == {}
    SCHEMA.validate(tomllib.loads(GOOD))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[model.a]", "'model' is no key; did you mean 'models'?"),
        ('[models.a]\nrecipee = "tabular"', "models.a: 'recipee' is no key; did you mean 'recipe'"),
        ("[models.a.gate]\nmetrik = 1", "models.a.gate: 'metrik' is no key; did you mean 'metric'"),
        ('[models.a]\nrecipe = "tabular"\n[models.a.config]\nstep = 1', "did you mean 'steps'?"),
        (
            '[models.a]\nrecipe = "tabular"\n[models.a.config]\nsteps = 0',
            "steps: must be a whole number >= 1, got 0",
        ),
        (
            '[models.a]\nrecipe = "tabular"\n[models.a.config]\nsteps = "x"',
            "models.a.config.steps: must be a whole number, got 'x'",
        ),
        ('[models.a]\nrecipe = "tabluar"', "recipe: must be one of"),
        ('[models.a]\nrecipe = "json"', "recipe: json has no TASKS"),
        ('[models.a]\nrecipe = "tabular"\ntask = "generation"', "models.a.task: must be one of"),
        (
            '[models.a]\nrecipe = "tabular"\nbase = "gpt"',
            "base: tabular starts from no other model",
        ),
        ("[models.a.config]\nsteps = 1", "models.a.recipe: must be given with config or base"),
        (
            '[models.a]\ntask = "guess"',
            "models.a.task: must be one of classification, regression, ",
        ),
        ("models = 1", "models: must be tables"),
        ("[models.a", "headrace.toml cannot be read"),
        ('[models.a]\nfeatures = "bill"', "models.a.features: must be a list, got 'bill'"),
        ('[models.a]\nfeature_servise = "x"', "did you mean 'feature_service'?"),
        ("[models.a]\nfeature_service = 1", "models.a.feature_service: must be a text, got 1"),
        ('[models.a]\nfeature_service = ""', "models.a.feature_service: must be a text"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    if not text.endswith("[models.a"):
        document = tomllib.loads(text)
        # What depends on what can be imported is not in the schema.
        if not any(word in said for word in ("recipe:", "task: must", "starts from")):
            with pytest.raises(ValidationError):
                SCHEMA.validate(document)


def test_a_declared_model_learns_by_its_gate(engine: Engine, tmp_path: Path) -> None:
    declared = read(tmp_path, GOOD)
    lines = apply(engine, declared)
    assert lines == [
        "churn: gate_metric=auc, learn=on, min_improvement=0.01, task=classification, as declared",
        "watched-closely: learn=on, as declared",
    ]
    assert apply(engine, declared) == []
    own = policies.read(engine, "churn")["own"]
    assert own == {
        "gate_metric": "auc", "learn": "on", "min_improvement": "0.01", "task": "classification",
    }  # fmt: skip


def test_what_was_stopped_by_hand_stays_so(engine: Engine, tmp_path: Path) -> None:
    policies.write(engine, "churn", {"learn": "off"})
    apply(engine, read(tmp_path, GOOD))
    assert policies.read(engine, "churn")["own"]["learn"] == "off"


def test_a_name_that_no_model_can_have_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="model"):
        apply(engine, read(tmp_path, f"[models.{'a' * 600}]"))


def test_the_schema_is_json() -> None:
    Draft202012Validator.check_schema(json.loads(json.dumps(toml_schema())))

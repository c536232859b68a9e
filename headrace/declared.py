"""Which models learn, and how: the tables ``models`` of ``headrace.toml``.

    [models.churn]
    recipe = "tabular"
    features = ["plan", "bill", "segment_features__labels_30d"]

    [models.churn.config]
    steps = 300

    [models.churn.sampling]
    examples = 10_000
    by = "balance"

    [models.churn.gate]
    metric = "auc"

A key that nobody knows is an error that names the nearest one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from headrace.alerting.receivers import Receiver
from headrace.control import policies
from headrace.engine import Engine
from headrace.errors import ModelError, SettingError
from headrace.model.inputs import Id
from headrace.model.recipe import Recipe, Task
from headrace.model.sampling import Sampling
from headrace.settings import FEATURE_SERVICE
from headrace.toml import converted, known, read_table
from headrace.trainer.recipes import find, names

GateMetric = Literal["log_loss", "auc", "f1", "accuracy", "brier", "mae", "mse", "ndcg"]


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Policies of the gate; what is not given stays as `headrace policy` says.

    Attributes:
        metric: what a candidate is compared by (policy `gate_metric`).
        min_improvement: relative improvement that it needs on the newest labels.
        max_forgetting: relative loss that is allowed on old labels.
        max_slice_drop: relative loss that is allowed in a segment.
        suspect_auc: from this AUC on a candidate is too good to be true.
    """

    metric: GateMetric | None = None
    min_improvement: float | None = None
    max_forgetting: float | None = None
    max_slice_drop: float | None = None
    suspect_auc: float | None = None

    def policies(self) -> dict[str, str]:
        """Return what was given, by the names of the policies."""
        given = msgspec.structs.asdict(self)
        given["gate_metric"] = given.pop("metric")
        return {name: str(value) for name, value in given.items() if value is not None}


class Online(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model learns between its runs.

    Attributes:
        every_s: shortest time between two versions, in seconds.
        batch: most new labels in one step.
        replay: older examples in each step, drawn from the reservoir.
        reservoir: examples that are kept in memory for that.
        rate: learning rate.
        steps: of the optimizer, in each step.
        keep: how many of the newest versions stay on disk.
    """

    every_s: Annotated[float, Meta(ge=0)] = 0.5
    batch: Annotated[int, Meta(ge=1)] = 256
    replay: Annotated[int, Meta(ge=0)] = 256
    reservoir: Annotated[int, Meta(ge=1)] = 2_000
    rate: Annotated[float, Meta(gt=0, le=1)] = 0.01
    steps: Annotated[int, Meta(ge=1)] = 10
    keep: Annotated[int, Meta(ge=1)] = 20


class Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the file.

    Attributes:
        recipe: one of Headrace's, or the dotted name of a module; "": by what the model's events
            hold.
        base: the model to start from, a folder or a name of the Hugging Face hub; "": the recipe's.
        task: what is predicted; none: by the model's events, if the recipe can do it.
        features: names of the features that the model is given; none: all.
        ids: those of the event that it is given as features, too; none: the recipe's, which is
            `item_id` for `ranking`.
        feature_service: the service of `feature_repo/definitions.py` whose features it learns from;
            each version is served with the one that it was trained with.
        config: settings of the recipe.
        sampling: which examples it learns from, and how much each counts.
        gate: when a version is good enough.
        online: whether and how it learns between its runs; none: it does not.
    """

    recipe: str = ""
    base: str = ""
    task: Task | None = None
    features: tuple[str, ...] | None = None
    ids: tuple[Id, ...] | None = None
    feature_service: Annotated[str, Meta(min_length=1)] = FEATURE_SERVICE
    config: dict[str, Any] = {}
    sampling: Sampling = Sampling()
    gate: Gate = Gate()
    online: Online | None = None


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file."""

    models: dict[str, Declared] = {}
    alerts: dict[str, Receiver] = {}


def read_declared(path: Path) -> dict[str, Declared]:
    """Return the models of the file by name; none where there is no file.

    Modules in the folder of the file can be imported from then on: recipes of one's own lie there.

    Raises:
        SettingError: the file cannot be read, or a key or value is not allowed.
    """
    models = read_table(path, "models")
    if (beside := str(path.resolve().parent)) not in sys.path:
        sys.path.append(beside)
    declared = {}
    for name, model in models.items():
        where = f"{path.name}: models.{name}"
        known(where, model, Declared.__struct_fields__)
        if isinstance(model, dict):
            known(f"{where}.gate", model.get("gate", {}), Gate.__struct_fields__)
            known(f"{where}.online", model.get("online", {}), Online.__struct_fields__)
            known(f"{where}.sampling", model.get("sampling", {}), Sampling.__struct_fields__)
        declared[name] = converted(model, Declared, where)
    for name, one in declared.items():
        if one.recipe:
            recipe, _ = chosen(one, where=f"{path.name}: models.{name}")
            if one.task is not None and one.task not in recipe.TASKS:
                raise SettingError(
                    f"{path.name}: models.{name}.task: must be one of {', '.join(recipe.TASKS)} "
                    f"for the recipe {one.recipe}, got {one.task!r}"
                )
        if one.online and one.task not in (None, "classification"):
            raise SettingError(
                f"{path.name}: models.{name}.online: is for classification, got {one.task!r}"
            )
        if not one.recipe and (one.config or one.base):
            raise SettingError(
                f"{path.name}: models.{name}.recipe: must be given with config or base"
            )
    return declared


def chosen(declared: Declared, where: str = "") -> tuple[Recipe, Any]:
    """Return the recipe of a declaration and its settings.

    Raises:
        SettingError: there is no such recipe, or a setting is not known or not allowed.
    """
    try:
        recipe = find(declared.recipe)
    except ModelError as error:
        raise SettingError(f"{where}.{error}") from None
    given = dict(declared.config)
    settings = setting_names(recipe.Config)
    known(f"{where}.config", given, [name for name in settings if name != "base"])
    for name, keys in _tables(recipe.Config):
        known(f"{where}.config.{name}", given.get(name), keys)
    if declared.base:
        if "base" not in settings:
            raise SettingError(f"{where}.base: {declared.recipe} starts from no other model")
        given["base"] = declared.base
    return recipe, converted(given, recipe.Config, f"{where}.config")


def setting_names(config: type[Any]) -> list[str]:
    """Return the names of a recipe's settings."""
    if is_dataclass(config):
        return [one.name for one in fields(config)]
    return [one.name for one in msgspec.structs.fields(config)]


def _tables(config: type[Any]) -> list[tuple[str, Sequence[str]]]:
    """Return the settings that are tables, with the keys of each."""
    fields = [] if is_dataclass(config) else msgspec.structs.fields(config)
    return [
        (field.encode_name, kind.__struct_fields__)
        for field in fields
        for kind in (field.type, *get_args(field.type))
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ]


def toml_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, with the settings of each of Headrace's recipes."""
    (top,), shared = msgspec.json.schema_components([File], ref_template="#/$defs/{name}")
    settings = []
    for name in names():
        (_,), of_recipe = msgspec.json.schema_components(
            [find(name).Config], ref_template=f"#/$defs/{name}.{{name}}"
        )
        shared |= {f"{name}.{key}": value for key, value in of_recipe.items()}
        is_it = {"properties": {"recipe": {"const": name}}, "required": ["recipe"]}
        config = {"$ref": f"#/$defs/{name}.Config"}
        settings.append({"if": is_it, "then": {"properties": {"config": config}}})
    shared["Declared"]["allOf"] = settings
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "headrace.toml",
        **top,
        "$defs": shared,
    }


def apply(engine: Engine, declared: Mapping[str, Declared]) -> list[str]:
    """Set the policies that declarations stand for; return what changed, a line each.

    A declared model learns, unless `headrace train MODEL --off` said that it does not.

    Raises:
        ContractError: no model can have this name, or a value is none of the policy's.
        SettingError: the engine cannot do what is declared.
    """
    said = []
    for model, one in declared.items():
        if one.online and engine.dialect.name != "postgres":
            raise SettingError(f"models.{model}.online: needs HEADRACE_ENGINE=postgres")
        own = policies.read(engine, model)["own"]
        wanted = one.gate.policies()
        if one.task:
            wanted["task"] = one.task
        if "learn" not in own:
            wanted["learn"] = "on"
        changed = {name: value for name, value in wanted.items() if own.get(name) != value}
        if changed:
            policies.write(engine, model, changed)
            values = ", ".join(f"{name}={value}" for name, value in sorted(changed.items()))
            said.append(f"{model}: {values}, as declared")
    return said

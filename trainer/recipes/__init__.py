"""Recipes: one file for each way to make a model. `find` returns one, `load` what one has made."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from headrace.errors import ModelError
from headrace.model.artifact import Manifest, read_manifest
from headrace.model.corrections import Corrected
from headrace.model.given import given
from headrace.model.prior import corrected
from headrace.model.recipe import Predictor, Recipe, Task

PACKAGE = __name__
# What a version of these recipes runs is named in its folder.
RUN_YOUR_CODE = ("command", "python")


def names() -> list[str]:
    """Return the names of Headrace's own recipes."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


def find(name: str) -> Recipe:
    """Return a recipe: one of Headrace's own by its name, or any module by its dotted one.

    Raises:
        ModelError: there is no such module, it lacks a name of `Recipe`, or a package it needs.
    """
    own = names()
    module_name = f"{PACKAGE}.{name}" if name in own else name
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ModelError(
            f"recipe: must be one of {', '.join(own)}, or a module that can be imported, "
            f"got {name!r}"
        ) from None
    for wanted in ("TASKS", "NEEDS", "Config", "fit", "load"):
        if not hasattr(module, wanted):
            raise ModelError(f"recipe: {name} has no {wanted}; docs/recipes.md says what it needs")
    recipe = cast(Recipe, module)
    for package in recipe.NEEDS:
        if find_spec(package) is None:
            raise ModelError(f"recipe: {name} needs the package {package}; pip install it")
    return recipe


def load(folder: Path) -> tuple[Manifest, Predictor]:
    """Load a version: its manifest, and its predictor with what the manifest gives and corrects.

    Raises:
        ModelError: the folder is no version, or there is no such recipe.
    """
    manifest = read_manifest(folder)
    version = find(manifest.recipe).load(folder)
    version = given(version, cast(Task, manifest.task), manifest.features, manifest.ids)
    predictor = corrected(version, manifest.shift)
    if manifest.corrections:
        predictor = Corrected(predictor, manifest.corrections)
    return manifest, predictor

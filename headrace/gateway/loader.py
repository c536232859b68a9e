"""Loads published versions by their recipes, and once for all of them the feature reader.

torch is imported by the first version that needs it: one of texts that a graph serves does not.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.control.plan import Served
from headrace.declared import read_declared
from headrace.engine import Engine
from headrace.errors import ModelError
from headrace.events.labels import label_text
from headrace.gateway.answers import prediction
from headrace.gateway.versions import LoadedVersion, Online
from headrace.model.artifact import artifact_path, read_manifest
from headrace.model.inputs import Example
from headrace.trainer.recipes import RUN_YOUR_CODE, load, names

if TYPE_CHECKING:
    from headrace.features.reader import FeatureReader

logger = logging.getLogger(__name__)


class Loader:
    """Loads versions. `reader` is there once a version needs it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._warm = False
        self.reader: FeatureReader | None = None

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()

    def prepare(self) -> None:
        """Import what takes seconds to import, so that the first version serves sooner."""
        _quiet_threads()
        for name in (
            "headrace.model.network",
            "headrace.model.text.version",
            "onnxruntime",
            "feast",
        ):
            importlib.import_module(name)

    def load(self, row: Served) -> LoadedVersion:
        """Return the version of a row of the serving plan, after a first prediction with it.

        Raises whatever is wrong with its artifact, also when that prediction is not finite.
        """
        _quiet_threads()
        path = artifact_path(row.artifact_uri, self._engine.settings.artifacts_path)
        self._check(row.model, read_manifest(path).recipe)
        manifest, predictor = load(path)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(os.cpu_count() or 1)
        online = self._online(predictor.features)
        (answer,) = predictor.predict([Example("warm up")])
        if not self._warm:
            self._warm = True
            gc.collect()
            gc.freeze()
        labels, positive = predictor.labels, manifest.positive_label
        if positive not in labels:
            positive = labels[1] if len(labels) == 2 else None
        version = LoadedVersion(
            row,
            manifest,
            predictor,
            tuple(map(label_text, labels)),
            None if positive is None else label_text(positive),
            online,
        )
        prediction(version, {}, answer)
        logger.info("loaded version %s of %s", row.model_version, row.model)
        return version

    def _check(self, model: str, recipe: str) -> None:
        """Refuse code that no recipe of Headrace and no declaration of the model names.

        A version of a recipe that runs the user's code needs the declaration, too.

        Raises:
            ModelError: the version is of another recipe.
        """
        own = [name for name in names() if name not in RUN_YOUR_CODE]
        if recipe in own:
            return
        declared = read_declared(self._engine.settings.models_path).get(model)
        if declared is None or declared.recipe != recipe:
            raise ModelError(
                f"recipe: must be one of {', '.join(own)}, or what "
                f"{self._engine.settings.models} declares for {model!r}, got {recipe!r}"
            )

    def _online(self, wanted: Sequence[str]) -> Online | None:
        """Return what reads those features that are in the store, named ``view__feature``."""
        if not any("__" in name for name in wanted):
            return None
        if self.reader is None:
            from headrace.features.reader import FeatureReader

            self.reader = FeatureReader(self._engine)
        names = [name for name in self.reader.names if name in wanted]
        return Online(self.reader, self.reader.needed(names)) if names else None


def _quiet_threads() -> None:
    """Have torch's idle threads sleep. It is read when torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

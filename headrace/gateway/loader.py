"""Loads published versions by their recipes, and the readers of their features.

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
from headrace.errors import ModelError, SettingError
from headrace.events.labels import label_text
from headrace.gateway.answers import prediction
from headrace.gateway.versions import LoadedVersion, Online
from headrace.model.artifact import artifact_path, read_manifest
from headrace.model.inputs import Example
from headrace.trainer.recipes import RUN_YOUR_CODE, load, names

if TYPE_CHECKING:
    from headrace.features.reader import FeatureReader
    from headrace.model.artifact import Manifest

logger = logging.getLogger(__name__)


class Loader:
    """Loads versions, and opens what reads the features of each service that they name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._warm = False
        self._readers: dict[str, FeatureReader] = {}
        self._opened: list[FeatureReader] = []

    def close(self) -> None:
        for reader in self._opened:
            reader.close()

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
        online = self._online(manifest, predictor.features)
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

    def _online(self, manifest: Manifest, reads: Sequence[str]) -> Online | None:
        """Return what looks up the features that a version was trained with.

        Of a version of before these are those that it `reads` of what is in the service.

        Raises:
            ModelError: the service, or one of the features, is no longer there.
        """
        wanted = manifest.looked_up
        if wanted is None and not any("__" in name for name in reads):
            return None
        if wanted == ():
            return None
        service = manifest.feature_service
        try:
            reader = self._reader(service)
        except SettingError as error:
            raise ModelError(
                f"the version was trained with the feature_service {service}; {error}"
            ) from None
        if wanted is None:
            wanted = tuple(name for name in reader.names if name in reads)
        if gone := [name for name in wanted if name not in reader.names]:
            raise ModelError(
                f"feature_service: {service} must have {', '.join(gone)}, with which the version "
                f"was trained; it has {', '.join(reader.names)}"
            )
        return Online(reader, reader.needed(wanted)) if wanted else None

    def _reader(self, service: str) -> FeatureReader:
        """Return the reader of a service; a new one where the definitions have changed.

        Versions that are loaded keep the one that they have.
        """
        reader = self._readers.get(service)
        if reader is None or not reader.is_current:
            from headrace.features.reader import FeatureReader

            self._readers[service] = FeatureReader(self._engine, service)
            self._opened.append(self._readers[service])
        return self._readers[service]


def _quiet_threads() -> None:
    """Have torch's idle threads sleep. It is read when torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

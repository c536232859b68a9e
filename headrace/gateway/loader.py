"""Loads published versions, and once for all of them the backbone and the feature reader.

torch is imported when the first version is loaded: a gateway that only takes events never needs it.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
from typing import TYPE_CHECKING

from headrace.control.plan import Served
from headrace.engine import Engine
from headrace.events.labels import label_text
from headrace.gateway.versions import LoadedVersion
from headrace.model.artifact import artifact_path, load_adapter, read_config
from headrace.model.inputs import Example

if TYPE_CHECKING:
    from headrace.features.reader import FeatureReader
    from headrace.model.network import Adapter, Backbone

logger = logging.getLogger(__name__)


class Loader:
    """Loads versions. `backbone` and `reader` are there once a version needs them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._warm = False
        self.backbone: Backbone | None = None
        self.reader: FeatureReader | None = None

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()

    def prepare(self) -> None:
        """Import what takes seconds to import, so that the first version serves sooner."""
        _quiet_threads()
        for name in ("headrace.model.network", "transformers.models.bert.modeling_bert", "feast"):
            importlib.import_module(name)

    def load(self, row: Served) -> LoadedVersion:
        """Return the version of a row of the serving plan, after a first prediction with it.

        Raises whatever is wrong with its artifact.
        """
        _quiet_threads()
        path = artifact_path(row.artifact_uri, self._engine.settings.artifacts_path)
        import torch

        from headrace.model.network import load_backbone, predict

        if not self._warm:
            torch.set_num_threads(os.cpu_count() or 1)
        config = read_config(path)
        if config["schema"]["has_text"] and self.backbone is None:
            self.backbone = load_backbone()
        adapter = load_adapter(path, self.backbone)
        online = self._online_names(adapter)
        predict(adapter, self.backbone, [Example("warm up")])
        if not self._warm:
            self._warm = True
            gc.collect()
            gc.freeze()
        positive = config.get("positive_label")
        if positive not in adapter.labels:
            positive = adapter.labels[1] if len(adapter.labels) == 2 else None
        logger.info("loaded version %s of %s", row.model_version, row.model)
        return LoadedVersion(
            row,
            adapter,
            tuple(map(label_text, adapter.labels)),
            None if positive is None else label_text(positive),
            online,
        )

    def _online_names(self, adapter: Adapter) -> tuple[str, ...]:
        """Return the features of the schema in the feature store, named ``view__feature``."""
        if not any("__" in name for name in adapter.schema.numerics):
            return ()
        if self.reader is None:
            from headrace.features.reader import FeatureReader

            self.reader = FeatureReader(self._engine)
        return tuple(name for name in self.reader.names if name in adapter.schema.numerics)


def _quiet_threads() -> None:
    """Have torch's idle threads sleep. It is read when torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

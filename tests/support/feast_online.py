"""The features of entities as Feast itself returns them, over its own messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headrace.features.reader import FeatureReader


def feast_online(
    reader: FeatureReader, entities: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return what `FeatureReader.online` returns, by ``FeatureStore.get_online_features``."""
    rows = [dict.fromkeys(name for view in reader.views for name in view.names) for _ in entities]
    for view in reader.views:
        known = [
            place
            for place, entity in enumerate(entities)
            if all(entity.get(key) is not None for key in view.keys)
        ]
        if not known:
            continue
        found = reader.store.get_online_features(
            features=view.references,
            entity_rows=[{key: entities[place][key] for key in view.keys} for place in known],
            full_feature_names=True,
        ).to_dict()
        for name in view.names:
            for place, value in zip(known, found[name], strict=True):
                rows[place][name] = value
    return [reader._completed(row) for row in rows]

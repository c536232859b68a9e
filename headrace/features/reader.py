"""Features of the live views: current ones for predictions, past ones for training.

Both use the definitions in `feature_repo/definitions.py` through Feast, which is imported when a
reader is created: that takes seconds and some 350 MB.
"""

from __future__ import annotations

import functools
import runpy
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from headrace.engine import Engine
from headrace.engine.postgres import alone
from headrace.errors import SettingError
from headrace.settings import FEATURE_SERVICE, project_path

if TYPE_CHECKING:
    import pandas as pd
    from feast import RepoConfig

    from headrace.features.lookup import LookedUp, Needed
    from headrace.features.online_store import Key, LiveViewOnlineStore, Newest
    from headrace.features.view_sql import ViewSql

Value = str | int | float | bool | bytes | datetime | None

PROJECT = "headrace"
# Schema of Feast's registry, and the lock under which one process at a time updates it.
SCHEMA = "feast"
APPLY_LOCK = f"{SCHEMA}.applying"


class FeatureReader:
    """Reads the features of one feature service. Safe to use from several threads.

    Creating one registers the definitions; registering them again changes nothing. Use it as a
    context manager, or call `close`.

    Args:
        engine: the database of the marts; its setting `registry_dsn` names the registry's.
        service: a feature service of `feature_repo/definitions.py`.

    Attributes:
        service: its name.
        keys: the join keys, e.g. ``["model", "segment"]``.
        names: names of the features returned, e.g. ``segment_features__labels_30d``.
        views: the feature views that are read, those of on-demand views included.
        others: names of the features of all views that are not in the service.
        store: Feast's own object, for what is not here: vector search.

    Raises:
        SettingError: there is no such service, or it holds a view that cannot be read.
    """

    def __init__(self, engine: Engine, service: str = FEATURE_SERVICE) -> None:
        from feast import Entity, FeatureService, FeatureStore
        from feast.base_feature_view import BaseFeatureView

        from headrace.features.service import parts

        self.service = service
        self._written = _definitions().read_bytes()
        definitions = runpy.run_path(str(_definitions()))
        self.store = FeatureStore(config=_config(engine))
        objects: list[Any] = [
            item
            for item in definitions.values()
            if isinstance(item, Entity | BaseFeatureView | FeatureService)
        ]
        services = {item.name: item for item in objects if isinstance(item, FeatureService)}
        if service not in services:
            raise SettingError(
                f"service: must be one of {', '.join(sorted(services))}, got {service!r}"
            )
        provider: Any = self.store._get_provider()
        self._online: LiveViewOnlineStore = provider.online_store
        with registry(engine) as connection:
            connection.autocommit = True
            with alone(connection, APPLY_LOCK):
                self.store.apply(objects)

        views = {item.name: item for item in objects if isinstance(item, BaseFeatureView)}
        try:
            self.views, self._computed, self.names = parts(services[service], views)
        except SettingError:
            self.close()
            raise
        self.keys = sorted({key for view in self.views for key in view.keys})
        named = (f"{view.name}__{field.name}" for view in views.values() for field in view.features)
        self.others = frozenset(named).difference(self.names)

    def __enter__(self) -> FeatureReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later read opens new ones."""
        registry: Any = self.store.registry
        registry.write_engine.dispose()
        self._online.teardown(self.store.config, [], [])

    @property
    def is_current(self) -> bool:
        """Whether the definitions are still those that were read."""
        return _definitions().read_bytes() == self._written

    def online(self, entities: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
        """Return the current features of each entity, in order.

        The features of a view are None for an entity that it does not know, and for one with a join
        key of the view that is None or missing. Items other than join keys are ignored. Each view
        is read by one query.
        """
        return [found.features for found in self.look_up(entities)]

    def look_up(self, entities: Sequence[Mapping[str, Value]]) -> list[LookedUp]:
        """Return the same with the event time of each row that was read."""
        from headrace.features.lookup import Asked, look_up

        needed = self.needed(self.names)
        return look_up([Asked(self, needed, entity) for entity in entities])

    def needed(self, names: Sequence[str]) -> Needed:
        """Return what it takes to know some features of the service."""
        from headrace.features.lookup import Needed

        return Needed.of(names, self.views, self._computed)

    def newest(self, reads: Sequence[tuple[ViewSql, Collection[Key]]]) -> list[dict[Key, Newest]]:
        """Return the newest rows of the entities that each view knows, by one query for each.

        Raises:
            psycopg.Error: the database cannot be reached, or a view is not as declared.
        """
        return self._online.newest(self.store.config, reads)

    def historical(
        self, frame: pd.DataFrame, given: Mapping[str, Sequence[Mapping[str, Value]]] | None = None
    ) -> pd.DataFrame:
        """Return `frame` with the features of each row as they were at its `event_timestamp`.

        Rows, index and other columns stay as they are; times come out in UTC (one without an
        offset is read as UTC). The features are columns of the same Python values that `online`
        returns, None where there was none yet; ``.astype("float64")`` converts them to numbers.

        Args:
            frame: columns of the join keys and `event_timestamp`.
            given: by name of a view the features of each row, where the caller knows better than
                its history; that view is not read.

        Raises:
            ValueError: a row has no time.
            KeyError: a column is missing.
        """
        import pandas as pd

        given = given or {}
        unread = [view for view in self.views if view.name not in given]
        asked = frame[[*self.keys, "event_timestamp"]].reset_index(drop=True)
        times = pd.to_datetime(asked["event_timestamp"], utc=True)
        read: list[dict[str, Value]] = [{} for _ in range(len(frame))]
        if unread:
            table = self.store.get_historical_features(
                entity_df=asked,
                features=[reference for view in unread for reference in view.references],
                full_feature_names=True,
            ).to_arrow()
            read = table.select([name for view in unread for name in view.names]).to_pylist()
            times = table["event_timestamp"].to_pandas()
        for view in self.views:
            for row, features in zip(read, given.get(view.name, ()), strict=False):
                row |= {f"{view.name}__{name}": features[name] for name in view.features}
        rows = [self._completed(row) for row in read]
        columns: dict[str, Any] = {"event_timestamp": times.array}
        for name in self.names:
            # A Series: pandas makes times of a bare array of objects into its own.
            columns[name] = pd.Series([row[name] for row in rows], frame.index, dtype=object)
        return frame.assign(**columns)

    def _completed(self, read: dict[str, Value]) -> dict[str, Value]:
        """Return the features of the service, from those that were read."""
        row = dict(read)
        for view in self._computed:
            row |= view.of(read)
        return {name: row[name] for name in self.names}


def _definitions() -> Path:
    return project_path("feature_repo") / "definitions.py"


def registry(engine: Engine) -> psycopg.Connection[Any]:
    """Return a new connection to the PostgreSQL of Feast's registry.

    Raises:
        psycopg.OperationalError: it cannot be reached.
    """
    options = f"-c timezone=UTC -c search_path={SCHEMA}"
    return psycopg.connect(engine.registry_dsn, options=options, application_name="headrace-feast")


def environment(engine: Engine) -> dict[str, str]:
    """Return the PG* variables that ``feast -c feature_repo`` needs (they hold the password)."""
    options = psycopg.pq.Conninfo.parse(engine.registry_dsn.encode())
    return {item.envvar.decode(): item.val.decode() for item in options if item.envvar and item.val}


def _config(engine: Engine) -> RepoConfig:
    from feast import RepoConfig
    from feast.infra.registry.sql import SqlRegistryConfig
    from pydantic import SecretStr

    from headrace.features.offline_store import LiveViewOfflineStoreConfig
    from headrace.features.online_store import LiveViewOnlineStoreConfig

    store: dict[str, Any] = {"engine": engine.dialect.name, "dsn": SecretStr(engine.dsn)}
    return RepoConfig(
        project=PROJECT,
        provider="local",
        entity_key_serialization_version=3,
        # The definitions come with the code, so a cached registry never becomes stale.
        registry=SqlRegistryConfig(
            path="postgresql+psycopg://",
            cache_ttl_seconds=0,
            sqlalchemy_config_kwargs={
                "creator": functools.partial(registry, engine),
                "pool_pre_ping": True,
            },
        ),
        online_store=LiveViewOnlineStoreConfig(**store),
        offline_store=LiveViewOfflineStoreConfig(**store),
    )

"""Feast's offline store: each entity row joined to the features known at its own time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.errors import FeastEntityDFMissingColumnsError
from feast.infra.offline_stores.offline_store import (
    OfflineStore,
    RetrievalJob,
    RetrievalMetadata,
)
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import RepoConfig

from headrace.engine.dialect import Connection, Dialect
from headrace.features.as_of import copied, embedded
from headrace.features.view_sql import PostgresConfig, ViewSql, arrow_type


class LiveViewOfflineStoreConfig(PostgresConfig):
    """Settings of `LiveViewOfflineStore`."""

    type: Literal["headrace.features.offline_store.LiveViewOfflineStore"] = (
        "headrace.features.offline_store.LiveViewOfflineStore"
    )


class LiveViewOfflineStore(OfflineStore):
    """Point-in-time joins over the histories that are the sources of the feature views."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Join every row of `entity_df` to the newest row that is not after its own time.

        The rows keep their order and their columns; times come out in UTC. A value older than a
        view's ttl, where it has one, is left out.

        Args:
            entity_df: join keys and `event_timestamp` (a time without an offset is UTC), or a
                query that returns them.

        Raises:
            ValueError: no entity rows, or one without a time.
            FeastEntityDFMissingColumnsError: a join key or the time is not among the columns.
        """
        if entity_df is None or kwargs:
            raise ValueError(f"entity_df: must be a frame or a query, got {entity_df} and {kwargs}")
        if isinstance(entity_df, str):
            entity_df = _frame(config, entity_df)
        views = {view.projection.name_alias or view.name: view for view in feature_views}
        names: dict[str, list[str]] = {name: [] for name in views}
        for ref in feature_refs:
            name, _, feature = ref.partition(":")
            if name in names:
                names[name].append(feature)
        at = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        frame = _checked(entity_df, at, [key for v in views.values() for key in _frame_keys(v)])

        def compute(timeout: int | None) -> pa.Table:
            table = pa.Table.from_pandas(frame, preserve_index=False)
            store = config.offline_store
            with store.connect() as connection, store.dialect.snapshot(connection, timeout):
                for name, view in views.items():
                    columns = _as_of(store.dialect, connection, view, names[name], frame, at)
                    for feature, column in zip(names[name], columns, strict=True):
                        full = f"{name}__{feature}" if full_feature_names else feature
                        table = table.append_column(full, column)
            return table

        return PointInTimeJob(
            compute,
            full_feature_names,
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            RetrievalMetadata(
                features=feature_refs,
                keys=[str(column) for column in frame.columns if column != at],
                min_event_timestamp=None if frame.empty else frame[at].min().to_pydatetime(),
                max_event_timestamp=None if frame.empty else frame[at].max().to_pydatetime(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Raise NotImplementedError: only materialization calls this, and there is none."""
        raise NotImplementedError("nothing to materialize: the online store reads the live views")

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Raise NotImplementedError: only materialization calls this, and there is none."""
        raise NotImplementedError("nothing to materialize: the online store reads the live views")


class PointInTimeJob(RetrievalJob):
    """A join that runs when its result is requested."""

    def __init__(
        self,
        compute: Callable[[int | None], pa.Table],
        full_feature_names: bool,
        on_demand_feature_views: list[OnDemandFeatureView],
        metadata: RetrievalMetadata,
    ) -> None:
        self._compute = compute
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata:
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._compute(timeout)


def _frame(config: RepoConfig, query: str) -> pd.DataFrame:
    with config.offline_store.connect() as connection:
        cursor = connection.execute(query)
        return pd.DataFrame(
            cursor.fetchall(), columns=[column.name for column in cursor.description or []]
        )


def _frame_keys(view: FeatureView) -> list[str]:
    """Return the columns of the entity rows that hold the view's join keys."""
    renamed = view.projection.join_key_map
    return [renamed.get(field.name, field.name) for field in view.entity_columns]


def _checked(frame: pd.DataFrame, at: str, keys: list[str]) -> pd.DataFrame:
    missing = {at, *keys} - set(frame.columns)
    if missing:
        raise FeastEntityDFMissingColumnsError({at, *keys}, missing)  # type: ignore[no-untyped-call]
    times = pd.to_datetime(frame[at], utc=True).dt.floor("us")
    if times.isna().any():
        raise ValueError(f"{at}: must be a time in every row, got none in {times.isna().sum()}")
    return frame.assign(**{at: times})


def _as_of(
    dialect: Dialect,
    connection: Connection,
    view: FeatureView,
    names: list[str],
    frame: pd.DataFrame,
    at: str,
) -> list[pa.Array]:
    """Return the features `names` as of each row's time, one array per feature."""
    view_sql = ViewSql.of(view)
    columns = [*_frame_keys(view), at]
    values = frame[columns].astype(object).where(frame[columns].notna(), None)
    entities = list(values.itertuples(index=False, name=None))
    join = copied if dialect.has_temporary_tables else embedded
    rows = join(connection, view_sql, names, entities)
    return [
        pa.array([row[i] for row in rows], type=arrow_type(view_sql.features[name]))
        for i, name in enumerate(names)
    ]

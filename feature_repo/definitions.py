"""Definitions for Feast: entities, feature views over the marts, and the service of the loop.

The source of a feature view is its history; the tag `online_view` names the mart with the newest
row of each entity. To add a feature view, add an object here.
"""

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Float64, Int64, String

model = Entity(
    name="model",
    value_type=ValueType.STRING,
    description="Name of a model, as in its inferences.",
)
segment = Entity(
    name="segment",
    value_type=ValueType.STRING,
    description="Segment of the requests, as in the inferences; '' where they have none.",
)

segment_features = FeatureView(
    name="segment_features",
    description="Labels of a segment of a model over the preceding 30 days, by event time.",
    entities=[model, segment],
    schema=[
        Field(name="model", dtype=String),
        Field(name="segment", dtype=String),
        Field(name="labels_30d", dtype=Int64, description="labels"),
        Field(name="positives_30d", dtype=Int64, description="positive ones among them"),
        Field(name="positive_rate_30d", dtype=Float64, description="their share, in [0, 1]"),
    ],
    source=PostgreSQLSource(
        name="segment_feature_history",
        table="headrace.segment_feature_history",
        timestamp_field="event_timestamp",
    ),
    tags={"online_view": "headrace.segment_features"},
)

training_v1 = FeatureService(
    name="training_v1",
    description="What the gateway reads for a prediction, and the trainer for a training set.",
    features=[segment_features],
)

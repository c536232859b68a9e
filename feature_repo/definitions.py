"""What Feast knows: entities, feature views over the marts, and the service the loop reads.

A feature view names its history as source; the tag `online_view` names the mart that holds the
newest row of each entity. A new feature view is a new object here and nothing else.
"""

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Float64, Int64, String

model = Entity(
    name="model",
    value_type=ValueType.STRING,
    description="A model, as its inferences name it.",
)
segment = Entity(
    name="segment",
    value_type=ValueType.STRING,
    description="A group of requests, as the inferences name it; '' where they name none.",
)

segment_features = FeatureView(
    name="segment_features",
    description="Labels of a model's segment over the 30 days before, by event time.",
    entities=[model, segment],
    schema=[
        Field(name="model", dtype=String),
        Field(name="segment", dtype=String),
        Field(name="labels_30d", dtype=Int64, description="final labels"),
        Field(name="positives_30d", dtype=Int64, description="of them positive"),
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
    description="What the gateway looks up to predict and the trainer to learn.",
    features=[segment_features],
)

"""Definitions for Feast: entities, feature views over the marts, and the services of the loop.

The source of a feature view is its history; the tag `online_view` names the mart with the newest
row of each entity. To add a feature view, add an object here. The entities of a request are named
as its fields: model, segment, user_id, session_id, item_id.
"""

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Array, Float32, Float64, Int64, String, UnixTimestamp

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
user = Entity(
    name="user",
    join_keys=["user_id"],
    value_type=ValueType.STRING,
    description="User of the requests, as in the inferences.",
)
session = Entity(
    name="session",
    join_keys=["session_id"],
    value_type=ValueType.STRING,
    description="Session of the requests, as the application names it in the inferences.",
)
item = Entity(
    name="item",
    join_keys=["item_id"],
    value_type=ValueType.STRING,
    description="What the predictions are about, as in the inferences.",
)

request = Entity(
    name="request_id",
    value_type=ValueType.STRING,
    description="Id of a request, as in the inferences.",
)
base = Entity(
    name="base",
    value_type=ValueType.STRING,
    description="What made a vector: the vectors of one base compare.",
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


def counted(entity: Entity, history: str, newest: str, described: str) -> FeatureView:
    """Return the view of an entity whose predictions and labels are counted."""
    return FeatureView(
        name=f"{entity.name}_features",
        description=described,
        entities=[model, entity],
        schema=[
            Field(name="model", dtype=String),
            Field(name=entity.join_key, dtype=String),
            Field(name="last_seen", dtype=UnixTimestamp, description="time of the last prediction"),
            Field(name="predictions_30d", dtype=Int64, description="predictions"),
            Field(name="labels_30d", dtype=Int64, description="labels"),
            Field(name="positives_30d", dtype=Int64, description="positive ones among them"),
            Field(name="positive_rate_30d", dtype=Float64, description="their share, in [0, 1]"),
            Field(name="reward_30d", dtype=Float64, description="sum of the rewards"),
        ],
        source=PostgreSQLSource(
            name=f"{entity.name}_feature_history",
            table=history,
            timestamp_field="event_timestamp",
        ),
        tags={"online_view": newest},
    )


user_features = counted(
    user,
    "headrace.user_feature_history",
    "headrace.user_features",
    "A user of a model over the preceding 30 days.",
)
session_features = counted(
    session,
    "headrace.session_feature_history",
    "headrace.session_features",
    "A session of a model, of its last 30 days at most.",
)
item_features = counted(
    item,
    "headrace.item_feature_history",
    "headrace.item_features",
    "An item of a model over the preceding 30 days, by the hour.",
)

# Vectors of recent inputs, for `retrieve_online_documents_v2`; docs/vectors.md.
input_vectors = FeatureView(
    name="input_vectors",
    description="What a frozen encoder makes of the inputs of requests.",
    entities=[model, request, base],
    schema=[
        Field(name="model", dtype=String),
        Field(name="request_id", dtype=String),
        Field(name="base", dtype=String),
        Field(
            name="embedding",
            dtype=Array(Float32),
            vector_index=True,
            vector_search_metric="cosine",
            description="of unit length",
        ),
    ],
    source=PostgreSQLSource(
        name="input_vectors",
        table="headrace.input_vectors",
        timestamp_field="event_time",
    ),
    tags={"online_view": "headrace.input_vectors"},
)

training_v1 = FeatureService(
    name="training_v1",
    description="What models learn from and are served with, unless declared with another.",
    features=[segment_features],
)
# A model is given numbers and words, no times: `last_seen` is for on-demand views.
COUNTED = ["predictions_30d", "labels_30d", "positives_30d", "positive_rate_30d", "reward_30d"]
entities_v1 = FeatureService(
    name="entities_v1",
    description="What is known of everything that a request names.",
    features=[
        segment_features,
        user_features[COUNTED],
        session_features[COUNTED],
        item_features[COUNTED],
    ],
)

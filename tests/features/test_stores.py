"""The two stores on feature views of any shape: types, keys, ties, ttl, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, RepoConfig, ValueType
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.types import Bool, Bytes, Float32, Float64, Int32, Int64, Map, String, UnixTimestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import UndefinedTable
from pydantic import SecretStr

from headrace.engine import Engine
from headrace.engine.postgres import Postgres
from headrace.features.offline_store import LiveViewOfflineStoreConfig
from headrace.features.online_store import LiveViewOnlineStoreConfig, Newest
from headrace.features.view_sql import ViewSql

START = datetime(2024, 2, 28, 23, 0, tzinfo=UTC)
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
MODEL = Entity(name="model", value_type=ValueType.STRING)
SECRET = "hunter2"


def source(name: str, **options: Any) -> PostgreSQLSource:
    return PostgreSQLSource(name=name, timestamp_field="at", **options)


def view(name: str, source: PostgreSQLSource, *fields: Field, **options: Any) -> FeatureView:
    return FeatureView(
        name=name, entities=[USER], schema=[Field(name="user_id", dtype=Int64), *fields],
        source=source, **options,
    )  # fmt: skip


@pytest.fixture(params=[True, False], ids=["copied", "embedded"])
def store(
    engine: Engine, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    """A store that joins in the way of PostgreSQL, and one that joins in that of RisingWave."""
    monkeypatch.setattr(Postgres, "has_temporary_tables", request.param)
    dsn = SecretStr(engine.dsn)
    opened = FeatureStore(
        config=RepoConfig(
            project=f"test_{tmp_path.name}",
            registry=str(tmp_path / "registry.db"),
            online_store=LiveViewOnlineStoreConfig(dsn=dsn),
            offline_store=LiveViewOfflineStoreConfig(dsn=dsn),
            entity_key_serialization_version=3,
        )
    )
    yield opened
    provider: Any = opened._get_provider()
    provider.online_store.teardown(opened.config, [], [])


def run(engine: Engine, statement: str) -> None:
    with engine.connect() as connection:
        connection.execute(statement)


def newest(store: FeatureStore, name: str, keys: list[tuple[Any, ...]]) -> dict[Any, Newest]:
    """What the store reads of a view, without Feast's messages."""
    provider: Any = store._get_provider()
    found: dict[Any, Newest]
    (found,) = provider.online_store.newest(
        store.config, [(ViewSql.of(store.get_feature_view(name)), keys)]
    )
    return found


TYPED = [
    Field(name="whole", dtype=Int64),
    Field(name="small", dtype=Int32),
    Field(name="number", dtype=Float64),
    Field(name="exact", dtype=Float64),
    Field(name="single", dtype=Float32),
    Field(name="word", dtype=String),
    Field(name="flag", dtype=Bool),
    Field(name="seen", dtype=UnixTimestamp),
    Field(name="raw", dtype=Bytes),
]


def test_every_type_is_the_same_online_and_offline(engine: Engine, store: FeatureStore) -> None:
    run(
        engine,
        """
        create table users as
        select * from (values
            (1, timestamptz '2024-01-01', 9007199254740993, 1::smallint, 0.1::float8,
             12.5::numeric, 0.5::real, 'größe ✓'::varchar, true,
             timestamptz '2024-01-01 03:04:05.6', '\\x00ff'::bytea),
            (2, '2024-01-02', 0, 0, 0, 0, 0, '', false, '1970-01-01 00:00:00', ''),
            (3, '2024-01-03', null, null, 'NaN', null, null, null, null, null, null)
        ) as v (user_id, at, whole, small, number, exact, single, word, flag, seen, raw)
        """,
    )
    store.apply([USER, view("users", source("users", table="users"), *TYPED)])
    references = [f"users:{field.name}" for field in TYPED]
    response = store.get_online_features(references, [{"user_id": number} for number in range(5)])
    online = pd.DataFrame(response.to_dict(), dtype=object).set_index("user_id")
    online = online[[field.name for field in TYPED]]
    expected = [9007199254740993, 1, 0.1, 12.5, 0.5, "größe ✓", True]
    assert online.iloc[1].tolist() == [
        *expected,
        datetime(2024, 1, 1, 3, 4, 5, tzinfo=UTC),
        b"\0\xff",
    ]
    zero = [0, 0, 0.0, 0.0, 0.0, "", False, datetime(1970, 1, 1, tzinfo=UTC), b""]
    assert online.iloc[2].tolist() == zero
    assert [type(value) for value in online.iloc[2]] == [type(value) for value in zero]
    assert online.loc[[0, 3, 4]].isna().all(axis=None)

    found = newest(store, "users", [(number,) for number in range(5)])
    direct = pd.DataFrame({key: row for (key,), (_, row) in found.items()}, dtype=object).T
    direct.columns = pd.Index(sorted(field.name for field in TYPED))
    assert direct.index.sort_values().tolist() == [1, 2, 3]
    assert [at.day for at, _ in (found[number,] for number in (1, 2, 3))] == [1, 2, 3]
    for field in TYPED:
        values = [None if value is pd.NaT else value for value in online[field.name][1:4]]
        assert direct.loc[[1, 2, 3], field.name].tolist() == values, field.name
        kinds = [type(value) for value in direct.loc[[1, 2, 3], field.name]]
        assert kinds == [type(value) for value in values], field.name

    vectors = dict(
        zip(response.proto.metadata.feature_names.val, response.proto.results, strict=True)
    )
    assert vectors["word"].statuses == [
        FieldStatus.NOT_FOUND, *[FieldStatus.PRESENT] * 3, FieldStatus.NOT_FOUND
    ]  # fmt: skip
    assert [t.ToDatetime(UTC).day for t in vectors["word"].event_timestamps[1:4]] == [1, 2, 3]

    frame = pd.DataFrame({"user_id": range(5), "event_timestamp": START})
    table = store.get_historical_features(frame, references).to_arrow()
    for field in TYPED:
        offline = pd.Series(table[field.name].to_pylist(), dtype=object).tolist()
        assert offline == online[field.name].tolist(), field.name


rows = st.tuples(
    st.integers(1, 3), st.sampled_from(["m", "n"]), st.integers(0, 12), st.integers(0, 99)
)
asked = st.tuples(
    st.integers(1, 4), st.sampled_from(["m", "n", None]), st.integers(-1, 13), st.booleans()
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(history=st.lists(rows, max_size=30), entities=st.lists(asked, max_size=12), data=st.data())
def test_offline_equals_a_naive_join(
    engine: Engine,
    store: FeatureStore,
    history: list[tuple[int, str, int, int]],
    entities: list[tuple[int, str | None, int, bool]],
    data: st.DataObject,
) -> None:
    ttl = data.draw(st.sampled_from([None, 3]))
    run(
        engine,
        "drop table if exists h; "
        "create table h (user_id int, model text, at timestamptz, made timestamptz, value int)",
    )
    with engine.connect() as connection, connection.cursor() as cursor:
        for user, model, hour, value in history:
            at = START + timedelta(hours=hour)
            made = at + timedelta(seconds=value)
            cursor.execute(
                "insert into h values (%s, %s, %s, %s, %s)", [user, model, at, made, value]
            )
    by_user = FeatureView(
        name="h",
        entities=[USER, MODEL],
        schema=[
            Field(name="user_id", dtype=Int64),
            Field(name="model", dtype=String),
            Field(name="points", dtype=Int64),
        ],
        source=source(
            "h",
            query="select * from h",
            created_timestamp_column="made",
            field_mapping={"value": "points"},
        ),
        ttl=timedelta(hours=ttl) if ttl else None,
    )
    store.apply([USER, MODEL, by_user])
    times = [
        START + timedelta(hours=hour) - timedelta(microseconds=early)
        for _, _, hour, early in entities
    ]
    frame = pd.DataFrame(
        {
            "user_id": pd.Series([row[0] for row in entities], dtype="int64"),
            "model": pd.Series([row[1] for row in entities], dtype=object),
            "event_timestamp": pd.Series(times, dtype="datetime64[ns, UTC]"),
        }
    )

    def naive(user: int, model: str | None, time: datetime) -> int | None:
        fitting = [
            (hour, value)
            for u, m, hour, value in history
            if (u, m) == (user, model)
            and START + timedelta(hours=hour) <= time
            and (ttl is None or START + timedelta(hours=hour + ttl) >= time)
        ]
        return max(fitting)[1] if fitting else None

    expected = [
        naive(user, model, time) for (user, model, _, _), time in zip(entities, times, strict=True)
    ]
    got = store.get_historical_features(frame, ["h:points"]).to_arrow()
    assert got["points"].to_pylist() == expected
    assert got["user_id"].to_pylist() == frame["user_id"].tolist()


def test_entities_may_come_from_a_query(engine: Engine, store: FeatureStore) -> None:
    run(engine, "create table u as select 1 as user_id, timestamptz '2024-01-01' as at, 7 as n")
    store.apply([USER, view("u", source("u", table="u"), Field(name="n", dtype=Int64))])
    query = "select 1 as user_id, timestamptz '2024-01-01' as event_timestamp, 'kept' as more"
    got = store.get_historical_features(query, ["u:n"], full_feature_names=True).to_df()
    assert got[["more", "u__n"]].to_dict("records") == [{"more": "kept", "u__n": 7}]


def test_the_tag_names_the_newest_rows(engine: Engine, store: FeatureStore) -> None:
    run(
        engine,
        "create table t as select 1 as user_id, timestamptz '2024-01-01' as at, 7 as n;"
        "create view newest as select user_id, at, n + 1 as n from t",
    )
    field = Field(name="n", dtype=Int64)
    tagged = view("tagged", source("t", table="t"), field, tags={"online_view": "newest"})
    plain = view("plain", source("t", table="t"), field)
    store.apply([USER, tagged, plain])
    got = store.get_online_features(["tagged:n", "plain:n"], [{"user_id": 1}], True).to_dict()
    assert (got["tagged__n"], got["plain__n"]) == ([8], [7])


def test_a_view_may_be_replaced(engine: Engine, store: FeatureStore) -> None:
    run(engine, "create view v as select 1 as user_id, timestamptz '2024-01-01' as at, 1::int as n")
    store.apply([USER, view("v", source("v", table="v"), Field(name="n", dtype=Float64))])
    for kind in ("int", "text", "numeric"):
        run(
            engine,
            "drop view v; create view v as "
            f"select 1 as user_id, timestamptz '2024-01-01' as at, 1::{kind} as n",
        )
        for _ in range(8):
            assert store.get_online_features(["v:n"], [{"user_id": 1}]).to_dict()["n"] == [1.0]
    run(engine, "drop view v")
    with pytest.raises(UndefinedTable):
        store.get_online_features(["v:n"], [{"user_id": 1}])


def test_refusals_are_clear(engine: Engine, store: FeatureStore) -> None:
    run(engine, "create table u as select 1 as user_id, timestamptz '2024-01-01' as at, 7 as n")
    users = view("u", source("u", table="u"), Field(name="n", dtype=Int64))
    store.apply([USER, users])
    frame = pd.DataFrame({"user_id": [1], "at": [START], "n": [1]})
    with pytest.raises(NotImplementedError, match="nothing to materialize or push, send events"):
        store.write_to_online_store("u", frame)
    with pytest.raises(NotImplementedError, match="nothing to materialize"):
        store.materialize(START, START + timedelta(days=1))
    with pytest.raises(ValueError, match="entity_df: must be a frame or a query"):
        store.get_historical_features(features=["u:n"], start_date=START, end_date=START)
    odd = view("odd", source("odd", table="u"), Field(name="n", dtype=Map))
    store.apply([USER, odd])
    with pytest.raises(TypeError, match="the type of n must be one of BOOL, BYTES"):
        store.get_online_features(["odd:n"], [{"user_id": 1}])


def test_no_secret_in_the_configuration() -> None:
    config = LiveViewOnlineStoreConfig(dsn=SecretStr(f"host=127.0.0.1 password={SECRET}"))
    assert SECRET not in repr(config) + str(config) + str(config.model_dump())

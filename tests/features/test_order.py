"""Which of several rows with one event time counts: the same online, in history, and by hand."""

from __future__ import annotations

import math
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
from feast.types import Bool, Bytes, Float32, Float64, Int64, String, UnixTimestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from headrace.engine import Engine
from headrace.features.offline_store import LiveViewOfflineStoreConfig
from headrace.features.online_store import LiveViewOnlineStoreConfig
from headrace.features.view_sql import ViewSql

START = datetime(2024, 2, 28, 23, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
NUMBERS = [-math.inf, -1.5, -0.0, 0.0, 2.0, math.nan, None]
# Their order by bytes is none of a language's. The fields are declared in another order than that
# of their names, which a tie goes by.
VALUES: dict[str, tuple[Any, str, list[Any]]] = {
    "word": (String, "text", ["a", "B", "b", "_", "é", "日", "𝒳", "", None]),
    "seen": (UnixTimestamp, "timestamptz", [START, START + 0.4 * SECOND, START + SECOND, None]),
    "number": (Float64, "double precision", NUMBERS),
    "single": (Float32, "real", NUMBERS),
    "label": (String, "varchar", ["10", "9", "Z", "a", None]),
    "flag": (Bool, "boolean", [False, True, None]),
    "whole": (Int64, "integer", [-1, 0, 10, None]),
    "exact": (Float64, "numeric", [-1, 0, 10, None]),
    "raw": (Bytes, "bytea", [b"", b"\0", b"a", b"\xff", None]),
}
NAMES = sorted(VALUES)


KINDS = {"user_id": "int", "at": "timestamptz", "made": "timestamptz"}
KINDS |= {name: kind for name, (_, kind, _) in VALUES.items()}


def view(name: str, **options: Any) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[USER],
        schema=[
            Field(name="user_id", dtype=Int64),
            *(Field(name=name, dtype=kind) for name, (kind, _, _) in VALUES.items()),
        ],
        source=PostgreSQLSource(name=name, table="h", timestamp_field="at", **options),
    )


PLAIN, CREATED = view("plain"), view("created", created_timestamp_column="made")


@pytest.fixture
def store(either: Engine, engine: Engine, tmp_path: Path) -> Iterator[FeatureStore]:
    """A store of either engine, with two views of the table h."""
    with engine.connect() as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in KINDS.items())
        connection.execute(f"create table h ({columns})")
    config: dict[str, Any] = {"engine": either.dialect.name, "dsn": SecretStr(either.dsn)}
    opened = FeatureStore(
        config=RepoConfig(
            project=f"test_{tmp_path.name}",
            registry=str(tmp_path / "registry.db"),
            online_store=LiveViewOnlineStoreConfig(**config),
            offline_store=LiveViewOfflineStoreConfig(**config),
            entity_key_serialization_version=3,
        )
    )
    opened.apply([USER, PLAIN, CREATED])
    yield opened
    provider: Any = opened._get_provider()
    provider.online_store.teardown(opened.config, [], [])


def put(engine: Engine, rows: list[dict[str, Any]]) -> None:
    with engine.connect() as connection, connection.cursor() as cursor:
        cursor.execute("truncate h")
        places = ", ".join(f"%({name})s" for name in KINDS)
        cursor.executemany(f"insert into h ({', '.join(KINDS)}) values ({places})", rows)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows of two users at two times, in any order; many differ in a column or two."""
    base = {name: draw(st.sampled_from(values)) for name, (_, _, values) in VALUES.items()}
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        changed = draw(st.lists(st.sampled_from(NAMES), max_size=3))
        rows.append(
            base
            | {name: draw(st.sampled_from(VALUES[name][2])) for name in changed}
            | {"user_id": draw(st.integers(1, 2)), "at": START + draw(st.integers(0, 1)) * HOUR}
            | {"made": draw(st.sampled_from([None, START, START + SECOND]))}
        )
    return rows


def read(name: str, value: Any) -> Any:
    """Return a value as a feature."""
    if isinstance(value, datetime):
        return value.replace(microsecond=0)
    if VALUES[name][0] in (Float32, Float64) and value is not None:
        return None if math.isnan(value) else float(value) + 0.0
    return value


def shown(values: list[Any]) -> list[str]:
    """Return values as text, which tells 0.0 from -0.0, and True from 1."""
    return [repr(v.astimezone(UTC) if isinstance(v, datetime) else v) for v in values]


def by_hand(
    rows: list[dict[str, Any]], user: int, moment: datetime, has_made: bool
) -> dict[str, Any]:
    def place(row: dict[str, Any]) -> list[Any]:
        given = [row["made"]] if has_made else []
        features = [read(name, row[name]) for name in NAMES]
        features = [each.encode() if isinstance(each, str) else each for each in features]
        return [row["at"], *((each is not None, each) for each in [*given, *features])]

    known = [row for row in rows if row["user_id"] == user and row["at"] <= moment]
    chosen = max(known, key=place) if known else dict.fromkeys(NAMES)
    return {name: read(name, chosen[name]) for name in NAMES}


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=histories(), has_made=st.booleans(), data=st.data())
def test_of_rows_with_one_time_the_same_counts_everywhere(
    engine: Engine,
    store: FeatureStore,
    rows: list[dict[str, Any]],
    has_made: bool,
    data: st.DataObject,
) -> None:
    put(engine, rows)
    used = CREATED if has_made else PLAIN
    # What is asked for has no say in which row it comes from.
    asked = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    references = [f"{used.name}:{name}" for name in asked]
    users = [1, 2, 3]

    online = store.get_online_features(references, [{"user_id": user} for user in users]).to_dict()
    moments = [START - SECOND, START, START + HOUR, START + 2 * HOUR]
    frame = pd.DataFrame(
        [{"user_id": user, "event_timestamp": moment} for user in users for moment in moments]
    )
    historical = store.get_historical_features(frame, references).to_arrow().to_pydict()
    for name in asked:
        expected = [
            by_hand(rows, user, moment, has_made)[name] for user in users for moment in moments
        ]
        assert shown(historical[name]) == shown(expected), name
        assert shown(online[name]) == shown(expected[len(moments) - 1 :: len(moments)]), name


def test_a_row_without_a_time_counts_nowhere(engine: Engine, store: FeatureStore) -> None:
    empty = dict.fromkeys(KINDS)
    put(
        engine,
        [
            empty | {"user_id": 1, "at": START, "whole": 7},
            empty | {"user_id": 1, "whole": 8},
            empty | {"user_id": 2, "whole": 9},
        ],
    )
    users = [{"user_id": user} for user in (1, 2)]
    online = store.get_online_features(["plain:whole"], users).to_dict()
    frame = pd.DataFrame(users).assign(event_timestamp=START)
    historical = store.get_historical_features(frame, ["plain:whole"]).to_arrow().to_pydict()
    assert online["whole"] == historical["whole"] == [7, None]


def test_text_is_compared_by_its_bytes() -> None:
    """The collations of the tests' PostgreSQL all do that, those of others do not."""
    parts = ViewSql.of(PLAIN)
    query = parts.chosen(parts.newest, of_each_time=False).as_string()
    texts = [name for name in NAMES if VALUES[name][0] is String]
    assert query.count(' collate "C" desc') == len(texts) == 2
    for name in texts:
        assert f'{parts.column(name).as_string()} collate "C" desc nulls last' in query

"""Services of every kind of view: what is read equals in history, the rest is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from headrace.engine import Engine
from headrace.errors import SettingError
from headrace.features import reader as module
from headrace.features.reader import FeatureReader
from tests.support.feast_online import feast_online

BIG = 2**53 + 1
START = datetime(2024, 2, 28, 23, 0, tzinfo=UTC)
DEFINITIONS = """
import pandas as pd
from feast import (
    Aggregation, BatchFeatureView, Entity, FeatureService, FeatureView, Field, KafkaSource,
    LabelView, OnDemandFeatureView, PushSource, RequestSource, StreamFeatureView, ValueType,
)
from feast.data_format import JsonFormat
from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
    PostgreSQLSource,
)
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float64, Int64, String, UnixTimestamp
from datetime import datetime, timedelta, UTC

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
USER_ID = Field(name="user_id", dtype=String)


def source(name):
    return PostgreSQLSource(name=name, table="facts", timestamp_field="at")


def view(name, entities, *fields, **options):
    return FeatureView(name=name, entities=entities, schema=list(fields),
                       **{"source": source(name), **options})


users = view("users", [user], USER_ID, Field(name="n", dtype=Int64), Field(name="x", dtype=Float64))
items = view("items", [item], Field(name="item_id", dtype=Int64), Field(name="n", dtype=Int64))
pairs = view("pairs", [user, item], USER_ID, Field(name="item_id", dtype=Int64),
             Field(name="word", dtype=String), Field(name="seen", dtype=UnixTimestamp))
OFFSET = 10


def plus(value):
    return None if value is None else value + OFFSET


@on_demand_feature_view(
    sources=[users, items[["n"]]], mode="python",
    schema=[Field(name="more", dtype=Int64), Field(name="share", dtype=Float64),
            Field(name="is_known", dtype=Bool), Field(name="day", dtype=UnixTimestamp)],
)
def mixed(inputs):
    ns = inputs["users__n"]
    return {
        "more": [plus(n) for n in ns],
        "share": [1 / len(ns) if x is None else x / len(ns) for x in inputs["x"]],
        "is_known": [n is not None for n in inputs["items__n"]],
        "day": [None if n is None else datetime(2024, 1, 1, 1, 2, 3, 400000, tzinfo=UTC)
                for n in ns],
    }


@on_demand_feature_view(
    sources=[users, pairs], mode="pandas",
    schema=[Field(name="next", dtype=Int64), Field(name="off", dtype=Float64),
            Field(name="loud", dtype=String)],
)
def framed(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({
        "next": frame["n"] + 1, "off": frame["x"] - frame["x"].mean(),
        "loud": frame["pairs__word"].str.upper() if frame["pairs__word"].notna().all() else "?",
    })


@on_demand_feature_view(
    sources=[users], mode="python", singleton=True, schema=[Field(name="one", dtype=Int64)]
)
def alone(row):
    return {"one": (row["n"] or 0) + 1}


@on_demand_feature_view(
    sources=[users], mode="python", schema=[Field(name="half", dtype=Int64)]
)
def wrong(inputs):
    return {"half": [1.5 if n == 3 else 1 for n in inputs["n"]]}


@on_demand_feature_view(
    sources=[users, RequestSource(name="asked", schema=[Field(name="hour", dtype=Int64)])],
    mode="python", schema=[Field(name="late", dtype=Int64)],
)
def of_request(inputs):
    return {"late": inputs["hour"]}


@on_demand_feature_view(
    sources=[users], mode="python", entities=[user], write_to_online_store=True,
    schema=[USER_ID, Field(name="written", dtype=Int64)],
)
def written(inputs):
    return {"written": inputs["n"]}


@on_demand_feature_view(
    sources=[users], mode="python", schema=[Field(name="many", dtype=Array(Int64))]
)
def listed(inputs):
    return {"many": [[1, 2] for _ in inputs["n"]]}


@on_demand_feature_view(
    sources=[users.with_name("guests")], mode="python", schema=[Field(name="m", dtype=Int64)]
)
def of_renamed(inputs):
    return {"m": inputs["n"]}


labeled = LabelView(name="labeled", entities=[user], source=PushSource(
    name="pushed", batch_source=source("labels")),
    schema=[USER_ID, Field(name="labeler", dtype=String), Field(name="n", dtype=Int64)])
nobody = view("nobody", [], Field(name="n", dtype=Int64))
odd = view("odd", [user], USER_ID, Field(name="tags", dtype=Array(String)))


def stream(name, **options):
    return StreamFeatureView(
        name=name, entities=[user], schema=[USER_ID, Field(name="n", dtype=Int64)],
        timestamp_field="at",
        source=KafkaSource(name=f"{name}_topic", topic="t", kafka_bootstrap_servers="nowhere:1",
                           message_format=JsonFormat(""), timestamp_field="at",
                           batch_source=source(name)), **options)


streamed = stream("streamed")
summed = stream("summed", mode="spark", aggregations=[
    Aggregation(column="n", function="sum", time_window=timedelta(hours=1))])
pushed = view("pushed_users", [user], USER_ID, Field(name="n", dtype=Int64),
              source=PushSource(name="of_users", batch_source=source("pushed_users")))
hidden = [view("unlisted", [user], USER_ID, Field(name="n", dtype=Int64))]

SERVICES = {
    "plain": [users, items, pairs],
    "on_demand": [users[["n"]], mixed, framed[["loud", "off", "next"]], alone],
    "only_computed": [mixed[["more"]]], "wrong": [wrong], "streams": [streamed, pushed],
    "of_request": [of_request], "written": [written], "listed": [listed],
    "of_renamed": [of_renamed], "labeled": [labeled], "nobody": [nobody], "odd": [odd],
    "summed": [summed], "unlisted": hidden, "named": [users.with_name("guests")],
    "mapped": [users.with_join_key_map({"user_id": "guest_id"})],
    "renamed": [mixed.with_name("mix")], "by_text": ["users:n", "items"],
}
globals().update({
    f"service_{name}": FeatureService(name=name, features=features)
    for name, features in SERVICES.items()
})
"""
USERS: list[Any] = ["ana", "bob", "eve", "nobody", None]
ITEMS = [1, 2, 3, None]


@pytest.fixture(autouse=True)
def definitions(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    monkeypatch.setattr(module, "project_path", lambda _: tmp_path)
    with engine.connect() as connection:
        connection.execute(
            """
            create table facts (user_id text, item_id int, at timestamptz, n bigint, x float8,
                                word text, seen timestamptz);
            insert into facts values
            ('ana', 1, '2024-01-01', 9007199254740993, 1.5, 'größe', '2024-01-01 00:00:00.7'),
            ('bob', 2, '2024-01-01', null, null, null, null),
            ('bob', 1, '2024-01-01', null, 'NaN', '', null),
            ('eve', 3, '2024-01-02', 3, -2, 'c', '1969-12-31 23:59:58.5')
            """
        )


def entities() -> list[dict[str, Any]]:
    return [{"user_id": user, "item_id": item} for user in USERS for item in ITEMS]


def read(reader: FeatureReader) -> list[dict[str, Any]]:
    """Return the features of all entities, which are the same online, in history and alone."""
    online = reader.online(entities())
    assert feast_online(reader, entities()) == online
    frame = pd.DataFrame(entities()).assign(event_timestamp=START)
    frame["item_id"] = frame["item_id"].astype("Int64")
    historical = reader.historical(frame)[reader.names].to_dict("records")
    assert [list(row) for row in online] == [reader.names] * len(online)
    assert online == historical
    kinds = [{name: type(value) for name, value in row.items()} for row in online]
    assert kinds == [{name: type(value) for name, value in row.items()} for row in historical]
    assert [reader.online([each])[0] for each in entities()[:8]] == online[:8]
    return online


def test_each_view_is_read_by_its_own_keys(either: Engine) -> None:
    with FeatureReader(either, "plain") as reader:
        assert reader.keys == ["item_id", "user_id"]
        rows = dict(
            zip(map(tuple, (each.values() for each in entities())), read(reader), strict=True)
        )
    known = {name for name, value in rows["ana", None].items() if value is not None}
    assert known == {"users__n", "users__x"}
    assert rows[None, 1] | {"items__n": 0} == dict.fromkeys(reader.names) | {"items__n": 0}
    assert rows["ana", 1] == {
        "users__n": BIG, "users__x": 1.5, "items__n": BIG, "pairs__word": "größe",
        "pairs__seen": datetime(2024, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    assert rows["eve", 3]["pairs__seen"] == datetime(1969, 12, 31, 23, 59, 58, tzinfo=UTC)
    assert set(rows["nobody", None].values()) == {None}


def test_on_demand_views_are_computed_from_what_was_read(either: Engine) -> None:
    with FeatureReader(either, "on_demand") as reader:
        assert reader.keys == ["item_id", "user_id"]
        assert reader.names == [
            "users__n", "mixed__more", "mixed__share", "mixed__is_known", "mixed__day",
            "framed__loud", "framed__off", "framed__next", "alone__one",
        ]  # fmt: skip
        rows = read(reader)
    for asked, row in zip(entities(), rows, strict=True):
        user, item = asked["user_id"], asked["item_id"]
        n = {"ana": BIG, "eve": 3}.get(user)
        x = {"ana": 1.5, "eve": -2.0}.get(user)
        assert row == {
            "users__n": n,
            "mixed__more": None if n is None else n + 10,
            "mixed__share": 1.0 if x is None else x,
            "mixed__is_known": item in (1, 3),
            "mixed__day": n and datetime(2024, 1, 1, 1, 2, 3, tzinfo=UTC),
            "framed__loud": {("ana", 1): "GRÖSSE", ("bob", 1): "", ("eve", 3): "C"}.get(
                (user, item), "?"
            ),
            "framed__off": None if x is None else 0.0,
            "framed__next": None if n is None else n + 1,
            "alone__one": (n or 0) + 1,
        }


def test_what_is_read_for_others_only_is_not_returned(either: Engine) -> None:
    with FeatureReader(either, "only_computed") as reader:
        assert reader.names == ["mixed__more"]
        assert read(reader)[0] == {"mixed__more": BIG + 10}
        empty = pd.DataFrame({"user_id": [], "item_id": [], "event_timestamp": []})
        empty["event_timestamp"] = pd.to_datetime(empty["event_timestamp"], utc=True)
        assert list(reader.historical(empty)) == [*empty.columns, "mixed__more"]
        assert reader.online([]) == []


def test_views_of_streams_are_read_from_their_batch_source(either: Engine) -> None:
    with FeatureReader(either, "streams") as reader:
        assert read(reader)[0] == {"streamed__n": BIG, "pushed_users__n": BIG}


def test_services_may_name_views(either: Engine) -> None:
    with FeatureReader(either, "by_text") as reader:
        assert read(reader)[0] == {"users__n": BIG, "items__n": BIG}


def test_a_function_that_returns_something_else_is_named(engine: Engine) -> None:
    with (
        FeatureReader(engine, "wrong") as reader,
        pytest.raises(ValueError, match=r"view wrong: half must be of type Int64, got 1\.5"),
    ):
        reader.online([{"user_id": "eve"}])


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ("labeled", "LabelView labeled: a label is no feature"),
        ("of_request", "OnDemandFeatureView of_request: it needs data of the request"),
        ("written", "OnDemandFeatureView written: nothing is written to the online store"),
        ("listed", "OnDemandFeatureView listed: the type of many is not supported"),
        ("of_renamed", "FeatureView users: it is renamed"),
        ("renamed", "OnDemandFeatureView mixed: it is renamed"),
        ("named", "FeatureView users: it is renamed"),
        ("mapped", "FeatureView users: it is renamed"),
        ("nobody", "FeatureView nobody: it has no entity"),
        ("odd", "FeatureView odd: the type of tags must be one of BOOL"),
        ("summed", "StreamFeatureView summed: Feast would have to compute it"),
        ("unlisted", "feature view unlisted: it is not at the top level of the definitions"),
    ],
)
def test_what_is_not_read_is_refused_by_name(engine: Engine, service: str, problem: str) -> None:
    with pytest.raises(SettingError, match=f"^service {service}: cannot read {problem}"):
        FeatureReader(engine, service)

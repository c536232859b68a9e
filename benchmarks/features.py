"""Features at request time: ours from live views, Feast's from its own stores, in turn.

All give the same ten features of the same entities, in two cases: a row of one table, and five each
of the views of users and items, which count events when they are read. What Feast's stores hold was
read from the views once; how it would be kept up to date is not measured.
"""

from __future__ import annotations

import gc
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from psycopg.conninfo import conninfo_to_dict

from benchmarks.load import load
from benchmarks.redis_server import Redis
from benchmarks.report import machine, quantile, say, short, table
from headrace.engine import Engine
from headrace.features.lookup import Asked, Needed, look_up
from headrace.features.reader import FeatureReader
from headrace.features.service import ReadView
from headrace.features.view_sql import ViewSql

if TYPE_CHECKING:
    from feast import FeatureView

Pair = dict[str, Any]
Read = Callable[[Sequence[Pair]], list[dict[str, Any]]]
Times = dict[int, dict[str, list[float]]]
KEYS = {"user_features": "user_id", "item_features": "item_id", "wide": "user_id"}
COUNTED = ("predictions_30d", "labels_30d", "positives_30d", "positive_rate_30d", "reward_30d")
WIDE = tuple(f"f{n}" for n in range(10))
EVENTS = 100_000
SIZES = (1, 10, 100)
REDIS, OURS = "Feast, Redis", "Headrace, live"
TABLE = """
create table wide as
select u.*, 'm0' as model, now() as event_timestamp
from (
    select
        'u' || n as user_id, n as f0, 2 * n as f1, 3 * n as f2, 4 * n as f3, 5 * n as f4,
        sqrt(n) as f5, ln(n + 1)::float as f6, n / 3.0::float as f7, n / 7.0::float as f8,
        n / 9.0::float as f9
    from generate_series(0, 20000) as n
) as u;
alter table wide add primary key (model, user_id);
analyze wide;
"""


def run(engine: Engine, quick: bool = False) -> str:
    """Return the tables as Markdown."""
    load(engine, EVENTS)
    return compared(engine, 60 if quick else 1_000, 500 if quick else 5_000)


def compared(engine: Engine, rounds: int, count: int) -> str:
    """Compare on `count` pairs of a user and an item of the events that are there."""
    with engine.connect() as connection:
        connection.execute(TABLE)
    pairs = _pairs(engine, count)
    cases = {
        "One view of ten features, over a table": [_wide()],
        "Two views of five features, which count events": _shipped(),
    }
    parts = []
    with (
        tempfile.TemporaryDirectory(prefix="headrace-features-") as folder,
        Redis(Path(folder)) as redis,
        FeatureReader(engine) as reader,
    ):
        for number, (title, views) in enumerate(cases.items()):
            place = Path(folder) / f"case {number}"
            place.mkdir()
            times = _case(engine, reader, redis, views, pairs, rounds, place)
            parts.append(f"## {title}\n\n{_table(times)}")
    return (
        "# Features at request time\n\n"
        "Milliseconds to read ten features of 1, 10 and 100 entities as Python values, "
        f"{short(EVENTS)} predictions in the tables. All ways read the same entities one after the "
        f"other in each of {rounds} rounds (half as many of 100), in an order that is drawn anew. "
        f"Redis {redis.version} keeps nothing on disk. {machine(engine)}\n\n" + "\n".join(parts)
    )


def _case(
    engine: Engine,
    reader: FeatureReader,
    redis: Redis,
    views: Sequence[FeatureView],
    pairs: Sequence[Pair],
    rounds: int,
    folder: Path,
) -> Times:
    features = {view.name: WIDE if view.name == "wide" else COUNTED for view in views}
    names = [f"{view}__{name}" for view, of_view in features.items() for name in of_view]
    read = tuple(
        ReadView(view.name, "", frozenset(view.join_keys), features[view.name], ViewSql.of(view))
        for view in views
    )
    needed = Needed(tuple(names), read, ())

    def ours(asked: Sequence[Pair]) -> list[dict[str, Any]]:
        return [found.features for found in look_up([Asked(reader, needed, e) for e in asked])]

    ways: dict[str, Read] = {OURS: ours}
    rows = ours(pairs)
    for number, (name, online) in enumerate(_stores(engine, redis, folder).items()):
        say(f"features: filling {name}")
        store = _opened(online, views, folder / f"registry {number}.db")
        if name != "Feast, live":
            _fill(store, features, pairs, rows)
        ways[name] = _by_feast(store, features, names)
    return _times(ways, pairs, rounds)


def _times(ways: Mapping[str, Read], pairs: Sequence[Pair], rounds: int) -> Times:
    """Milliseconds of each read, by number of entities; each round asks all for the same ones."""
    chance = random.Random(0)
    expected: list[dict[str, Any]] = []
    for name, read in ways.items():
        found = read(pairs[:100])
        expected = expected or found
        assert found == expected, f"{name} gives other values"
        for _ in range(20):
            read(pairs[:3])
    times: Times = {}
    gc.collect()
    gc.freeze()
    for size in SIZES:
        times[size] = {name: [] for name in ways}
        for number in range(10 + max(rounds // (1 if size < 100 else 2), 50)):
            asked = chance.sample(pairs, size)
            order = [*ways]
            chance.shuffle(order)
            for name in order:
                began = time.perf_counter()
                ways[name](asked)
                took = 1_000 * (time.perf_counter() - began)
                if number >= 10:  # connections and plans are warm by then
                    times[size][name].append(took)
        medians = {name: f"{quantile(values, 0.5):.2f}" for name, values in times[size].items()}
        say(f"features of {size}: {medians}")
    gc.unfreeze()
    return times


def _pairs(engine: Engine, count: int) -> list[Pair]:
    """Users and items of predictions that are drawn by their ids."""
    rows = engine.rows(
        "select model, user_id, item_id from events.inference "
        "where model = 'm0' and variant != 'shadow' and user_id is not null "
        "and item_id is not null order by md5(request_id) limit %s",
        [count],
    )
    assert len(rows) == count
    return rows


def _shipped() -> list[FeatureView]:
    from feature_repo.definitions import item_features, user_features

    return [user_features, item_features]


def _wide() -> FeatureView:
    from feast import FeatureView, Field
    from feast.infra.offline_stores.contrib.postgres_offline_store.postgres_source import (
        PostgreSQLSource,
    )
    from feast.types import Float64, Int64, String

    from feature_repo.definitions import model, user

    return FeatureView(
        name="wide",
        entities=[model, user],
        schema=[
            Field(name="model", dtype=String),
            Field(name="user_id", dtype=String),
            *(Field(name=name, dtype=Int64 if n < 5 else Float64) for n, name in enumerate(WIDE)),
        ],
        source=PostgreSQLSource(name="wide", table="wide", timestamp_field="event_timestamp"),
    )


def _by_feast(store: Any, features: Mapping[str, Sequence[str]], names: Sequence[str]) -> Read:
    references = [f"{view}:{name}" for view, of_view in features.items() for name in of_view]
    keys = ["model", *dict.fromkeys(KEYS[view] for view in features)]

    def read(asked: Sequence[Pair]) -> list[dict[str, Any]]:
        found = store.get_online_features(
            features=references,
            entity_rows=[{key: one[key] for key in keys} for one in asked],
            full_feature_names=True,
        ).to_dict()
        columns = [found[name] for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    return read


def _stores(engine: Engine, redis: Redis, folder: Path) -> dict[str, Any]:
    """The online stores of Feast: over our live views, and its own."""
    from pydantic import SecretStr

    from headrace.features.online_store import LiveViewOnlineStoreConfig

    dsn = conninfo_to_dict(engine.dsn)
    return {
        "Feast, live": LiveViewOnlineStoreConfig(dsn=SecretStr(engine.dsn)),
        "Feast, SQLite": {"type": "sqlite", "path": str(folder / "online.db")},
        "Feast, PostgreSQL": {
            "type": "postgres", "host": dsn["host"], "port": int(dsn["port"] or 5432),
            "database": dsn["dbname"], "user": dsn["user"], "password": dsn["password"],
            "sslmode": "disable", "db_schema": "public",
        },
        REDIS: {"type": "redis", "connection_string": f"127.0.0.1:{redis.port}"},
    }  # fmt: skip


def _opened(online: Any, views: Sequence[FeatureView], registry: Path) -> Any:
    from feast import FeatureStore, RepoConfig

    from feature_repo.definitions import item, model, user

    store = FeatureStore(
        config=RepoConfig(
            project=f"bench_{registry.parent.name[-1]}_{registry.stem[-1]}",
            provider="local",
            registry=str(registry),
            online_store=online,
            entity_key_serialization_version=3,
        )
    )
    store.apply([item, model, user, *views])
    return store


def _fill(
    store: Any,
    features: Mapping[str, Sequence[str]],
    pairs: Sequence[Pair],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    now = pd.Timestamp.now(tz="UTC")
    for view, names in features.items():
        key = KEYS[view]
        frame = pd.DataFrame(
            [
                {"model": pair["model"], key: pair[key], "event_timestamp": now,
                 **({} if view == "wide" else {"last_seen": now}),
                 **{name: row[f"{view}__{name}"] for name in names}}
                for pair, row in zip(pairs, rows, strict=True)
            ]
        )  # fmt: skip
        frame = frame.drop_duplicates(["model", key])
        whole = names[:5] if view == "wide" else names[:3]
        store.write_to_online_store(view, frame.astype(dict.fromkeys(whole, "Int64")))


def _table(times: Times) -> str:
    lines = []
    for name in times[SIZES[0]]:
        cells = []
        for size in SIZES:
            p50, p99 = (quantile(times[size][name], share) for share in (0.5, 0.99))
            ratio = p99 / quantile(times[size][REDIS], 0.99)
            cells += [f"{p50:.2f}", f"{p99:.2f}", f"{ratio:.2f}"]
        lines.append((name, *cells))
    head = [f"{size}: {what}" for size in SIZES for what in ("p50", "p99", "of Redis's p99")]
    over = [
        str(size)
        for size in SIZES
        if quantile(times[size][OURS], 0.99) > quantile(times[size][REDIS], 0.99)
    ]
    bar = f"Bar: no slower than Feast on Redis at p99. Over at: {', '.join(over) or 'none'}.\n"
    return bar + "\n" + table(["", *head], lines)

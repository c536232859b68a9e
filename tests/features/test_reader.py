"""The loop's own features, from the events that make them to what Feast returns."""

from __future__ import annotations

import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from headrace.engine import Engine
from headrace.errors import SettingError
from headrace.features.reader import FeatureReader, environment
from headrace.settings import project_path
from tests.support.segment_labels import START, Labels

NAMES = ["labels_30d", "positives_30d", "positive_rate_30d"]
MODELS, SEGMENTS = ("fraud", "größe ✓"), ("", "a", "b'\"; --", "日本")


def entity(model: str, segment: str | None) -> dict[str, str | None]:
    return {"model": model, "segment": segment}


def by_hand(engine: Engine) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (row["model"], row["segment"]): {f"segment_features__{name}": row[name] for name in NAMES}
        for row in engine.rows("select * from headrace.segment_features")
    }


def stream(seed: int, size: int, minutes: int) -> list[tuple[str, str | None, Any, str]]:
    """Labels in the order of their times, several in one minute, some of no segment."""
    chance = random.Random(seed)
    times = sorted(chance.randrange(minutes * 60) for _ in range(size))
    return [
        (
            chance.choice(MODELS),
            chance.choice([*SEGMENTS, None]),
            START + timedelta(seconds=second),
            chance.choice(["yes", "no"]),
        )
        for second in times
    ]


def test_online_equals_sql(engine: Engine, reader: FeatureReader, labels: Labels) -> None:
    labels.send(*stream(1, 60, 600))
    expected = by_hand(engine)
    assert len(expected) == len(MODELS) * len(SEGMENTS)
    unknown = dict.fromkeys(reader.names)
    asked = [entity(m, s) for m in (*MODELS, "nobody") for s in (*SEGMENTS, "nowhere", None)]
    asked += asked[:3]
    got = reader.online(asked)
    for row, features in zip(asked, got, strict=True):
        assert features == expected.get((str(row["model"]), row["segment"] or ""), unknown) or (
            row["segment"] is None and features == unknown
        )
    kinds = {name: type(value) for name, value in got[0].items()}
    assert kinds == dict(zip(reader.names, [int, int, float], strict=True))
    assert reader.online([]) == []
    assert reader.online([{"model": "fraud"}]) == [unknown]
    assert reader.online([{**entity("fraud", "a"), "more": 1}]) == reader.online(
        [entity("fraud", "a")]
    )


def test_a_committed_event_is_seen_at_once(reader: FeatureReader, labels: Labels) -> None:
    for number in range(1, 4):
        labels.send(("fraud", "a", START + timedelta(minutes=number), "yes"))
        assert reader.online([entity("fraud", "a")]) == [
            dict(zip(reader.names, [number, number, 1.0], strict=True))
        ]


def test_recovers_from_lost_connections(
    engine: Engine, reader: FeatureReader, labels: Labels
) -> None:
    labels.send(("fraud", "a", START, "yes"))
    known = START + timedelta(minutes=1)
    frame = pd.DataFrame([{**entity("fraud", "a"), "event_timestamp": known}])
    first = reader.online([entity("fraud", "a")])
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            killed = engine.rows(
                "select pg_terminate_backend(pid) as done from pg_stat_activity "
                "where application_name = 'headrace-feast' and datname = current_database()"
            )
            assert killed and all(row["done"] for row in killed)
            found = pool.map(lambda _: reader.online([entity("fraud", "a")]), range(8))
            assert list(found) == [first] * 8
            assert reader.historical(frame)[reader.names].iloc[0].to_dict() == first[0]


def test_threads_get_their_own_features(reader: FeatureReader, labels: Labels) -> None:
    labels.send(
        *(
            ("fraud", f"s{size}", START + timedelta(seconds=size), "yes")
            for size in range(1, 9)
            for _ in range(size)
        )
    )

    def read(size: int) -> object:
        return reader.online([entity("fraud", f"s{size}")])[0][reader.names[0]]

    asked = [1 + number % 8 for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, asked)) == asked


def test_no_skew(reader: FeatureReader, labels: Labels) -> None:
    """What was served at the end of a minute is what a read as of then gives, for ever after."""
    rows = stream(2, 80, 60)
    every = [entity(model, segment) for model in MODELS for segment in (*SEGMENTS, None)]
    # From here on the models know which label is the positive one.
    labels.send(*((model, "seen", START - timedelta(hours=1), "yes") for model in MODELS))
    served = []
    for minute in range(0, 60, 10):
        until = START + timedelta(minutes=minute + 10)
        batch = [row for row in rows if until - timedelta(minutes=10) <= row[2] < until]
        labels.send(*batch)
        online = reader.online(every)
        served += [
            {**key, "event_timestamp": until, **features}
            for key, features in zip(every, online, strict=True)
        ]
        frame = pd.DataFrame(served[-len(every) :])
        pd.testing.assert_frame_equal(
            reader.historical(frame.drop(columns=reader.names))[reader.names],
            frame[reader.names].astype(object).where(frame[reader.names].notna(), None),
        )
    frame = pd.DataFrame(served)
    later = reader.historical(frame.drop(columns=reader.names))
    assert later[reader.names].to_dict("records") == [
        {name: row[name] for name in reader.names} for row in served
    ]
    assert later[reader.names[0]].notna().sum() > 40


def test_historical_keeps_the_frame(reader: FeatureReader, labels: Labels) -> None:
    labels.send(("fraud", "a", START, "yes"), ("fraud", "a", START + timedelta(hours=2), "no"))
    frame = pd.DataFrame(
        {
            "extra": [{"a": [1]}, "text", 3.5, None],
            "segment": ["a", None, "a", "a"],
            "event_timestamp": pd.to_datetime(
                [
                    "2024-05-01 11:30:00",
                    "2024-05-01 10:00:00",
                    "2024-05-01 09:00:59",
                    "2024-05-01 09:01:00",
                ]
            ),
            "model": "fraud",
        },
        index=[7, 7, 3, 1],
    )
    got = reader.historical(frame)
    assert list(got.columns) == [*frame.columns, *reader.names]
    pd.testing.assert_series_equal(got["extra"], frame["extra"])
    assert str(got["event_timestamp"].dt.tz) == "UTC"
    assert (got["event_timestamp"].dt.tz_localize(None) == frame["event_timestamp"]).all()
    assert got["segment_features__labels_30d"].tolist() == [2, None, None, 1]
    assert got["segment_features__positive_rate_30d"].tolist() == [0.5, None, None, 1.0]
    assert reader.historical(frame.head(0))[reader.names].empty
    offset = frame.assign(event_timestamp=frame["event_timestamp"].dt.tz_localize("Asia/Tokyo"))
    assert reader.historical(offset)["segment_features__labels_30d"].isna().all()


def test_bad_frames_are_named(reader: FeatureReader) -> None:
    frame = pd.DataFrame([{**entity("fraud", "a"), "event_timestamp": pd.NaT}])
    with pytest.raises(ValueError, match="event_timestamp: must be a time in every row"):
        reader.historical(frame.astype({"event_timestamp": "datetime64[ns]"}))
    with pytest.raises(KeyError, match="segment"):
        reader.historical(frame.drop(columns="segment"))


def test_unknown_service_is_named(engine: Engine) -> None:
    with pytest.raises(
        SettingError, match="service: must be one of entities_v1, training_v1, got 'nope'"
    ):
        FeatureReader(engine, "nope")


def test_readers_may_start_together(engine: Engine) -> None:
    with ThreadPoolExecutor(3) as pool:
        readers = list(pool.map(lambda _: FeatureReader(engine), range(3)))
    for reader in readers:
        assert reader.names == readers[0].names
        reader.close()
    tables = engine.rows("select schemaname from pg_tables where tablename = 'feature_views'")
    assert tables == [{"schemaname": "feast"}]


def test_feast_is_imported_late() -> None:
    code = (
        "import sys, headrace.features; sys.exit('feast' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=project_path("sql").parent)


def test_feast_command(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from feast.cli.cli import cli

    FeatureReader(engine).close()
    for name, value in environment(engine).items():
        monkeypatch.setenv(name, value)
    repository = str(project_path("feature_repo"))
    for words in (["apply"], ["feature-views", "list"]):
        done = CliRunner().invoke(cli, ["-c", repository, *words])
        assert done.exit_code == 0, done.output
        assert "segment_features" in done.output

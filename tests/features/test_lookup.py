"""Features of everything that a request names: read together, as Feast and history give them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import psycopg
import pytest
from feast import ValueType
from psycopg.sql import SQL

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog
from headrace.features import online_store
from headrace.features.lookup import Asked, _key, look_up
from headrace.features.online_store import LiveViewOnlineStore
from headrace.features.reader import FeatureReader
from headrace.features.service import ReadView
from tests.support.feast_online import feast_online
from tests.support.policies import set_policies
from tests.support.segment_labels import START

KEYS = ("segment", "user_id", "session_id", "item_id")
VIEWS = {"segment_features", "user_features", "session_features", "item_features"}
MINUTE = timedelta(minutes=1)


@pytest.fixture
def reader(engine: Engine) -> Iterator[FeatureReader]:
    with FeatureReader(engine, "entities_v1") as opened:
        yield opened


class Requests:
    """Predictions in the order of their times, each with its label some minutes later."""

    def __init__(self, log: EventLog, seed: int) -> None:
        self._log, self._chance = log, random.Random(seed)
        self._labels: list[tuple[datetime, int]] = []
        self._count = 0

    def entity(self) -> dict[str, Any]:
        drawn = {key: self._chance.choice([f"{key} 1", f"{key} 2", "größe", None]) for key in KEYS}
        return {"model": self._chance.choice(["m", "n"]), **drawn}

    def send(self, until: datetime) -> dict[str, Any]:
        """Send the labels that came by a time, then a prediction at it; return what it names."""
        due = sorted(one for one in self._labels if one[0] <= until)
        self._labels = [one for one in self._labels if one[0] > until]
        self._count += 1
        for at, number in due:
            said = {"request_id": f"r{number}", "label": self._chance.choice(["yes", "no"])}
            said |= {"feedback_id": f"f{number}", "event_time": at.isoformat()}
            self._log.append("feedback", [parse("feedback", said)])
        entity = self.entity()
        event = {**entity, "request_id": f"r{self._count}", "event_time": until.isoformat()}
        self._log.append("inference", [parse("inference", {**event, "prediction": "yes"})])
        self._labels.append((until + self._chance.randrange(1, 9) * MINUTE, self._count))
        return entity


def test_what_is_served_is_what_history_says_and_what_feast_returns(
    engine: Engine, reader: FeatureReader, log: EventLog
) -> None:
    """As of the time of the row that was served; of users and sessions ever after, of the others
    until more comes in their minute or hour."""
    for model in ("m", "n"):
        set_policies(engine, model, positive_label="yes")
    requests = Requests(log, 5)
    at, served = START, []
    for number in range(40):
        at += random.Random(number).choice([MINUTE, 7 * MINUTE, timedelta(hours=1)])
        asked = [requests.send(at), requests.entity(), {"model": "nobody", "user_id": "u"}]
        found = reader.look_up(asked)
        assert feast_online(reader, asked) == [one.features for one in found]
        served += [*zip(asked, found, strict=True)]
        check_history(reader, VIEWS, [*zip(asked, found, strict=True)])
    assert all(one.known_at.keys() == VIEWS for _, one in served)
    # A view has a row where it has the keys and knows them.
    assert {view for _, one in served for view, time in one.known_at.items() if time} == VIEWS
    check_history(reader, {"user_features", "session_features"}, served)


def check_history(reader: FeatureReader, views: set[str], served: list[Any]) -> None:
    for view in (one for one in reader.views if one.name in views):
        rows = [
            {"model": entity["model"], **{key: entity.get(key) for key in KEYS},
             "event_timestamp": found.known_at[view.name]}
            for entity, found in served if found.known_at[view.name]
        ]  # fmt: skip
        wanted = [
            {name: found.features[name] for name in view.names}
            for _, found in served if found.known_at[view.name]
        ]  # fmt: skip
        if rows:
            frame = reader.historical(pd.DataFrame(rows))
            assert frame[view.names].to_dict("records") == wanted, view.name


def test_each_view_is_read_once_whoever_asks(
    engine: Engine, reader: FeatureReader, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(log, 6)
    entities = [requests.send(START + number * MINUTE) for number in range(20)]
    assert len({frozenset(key for key in KEYS if one[key]) for one in entities}) > 5
    with FeatureReader(engine) as segments:
        asked = [
            Asked(one, one.needed(one.names), entity)
            for number, entity in enumerate(entities)
            for one in [(reader, segments)[number % 2]]
        ]
        alone = [one for each in asked for one in look_up([each])]
        queries: list[object] = []
        run = LiveViewOnlineStore._run

        def counted(self: Any, dialect: Any, connection: Any, sent: Any) -> Any:
            queries.extend(sent)
            return run(self, dialect, connection, sent)

        monkeypatch.setattr(LiveViewOnlineStore, "_run", counted)
        assert look_up(asked) == alone
        assert len(queries) == len(VIEWS)


def test_only_the_views_that_are_needed_are_read(reader: FeatureReader) -> None:
    needed = reader.needed(["user_features__labels_30d"])
    assert [view.name for view in needed.views] == ["user_features"]
    (found,) = look_up([Asked(reader, needed, {"model": "m", "user_id": "u"})])
    assert found.features == {"user_features__labels_30d": None}
    assert found.known_at == {"user_features": None}


def test_a_lost_connection_is_replaced_and_a_failure_leaves_none_behind(
    engine: Engine, reader: FeatureReader, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    entity = Requests(log, 7).send(START)
    first = reader.look_up([entity])
    for _ in range(2):
        killed = engine.rows(
            "select pg_terminate_backend(pid) as done from pg_stat_activity "
            "where application_name = 'headrace-feast' and datname = current_database()"
        )
        assert killed and all(row["done"] for row in killed)
        assert reader.look_up([entity]) == first
    with monkeypatch.context() as patch:
        patch.setattr(online_store, "_text", lambda *_: SQL("select 1 / 0 where %s = %s"))
        with pytest.raises(psycopg.errors.DatabaseError):
            reader.look_up([entity])
    assert reader.look_up([entity]) == first


def test_a_key_that_its_type_cannot_hold_is_unknown(reader: FeatureReader) -> None:
    """And one of another type that it can hold is read as that."""
    for value, wanted in [("7", (7,)), (7.0, (7,)), ("x", None), ("", None), (2**63, None)]:
        view = SimpleNamespace(key_types=[("item_id", ValueType.INT64)])
        assert _key(cast(ReadView, view), {"item_id": value}) == wanted
    assert reader.online([{"model": "m", "user_id": 7}]) == [dict.fromkeys(reader.names)]

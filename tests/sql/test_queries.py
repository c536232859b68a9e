"""The example queries for analysts run in their role and return rows."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from headrace.engine import Engine
from headrace.events.contract import parse
from headrace.events.log import EventLog, Rejected
from headrace.settings import project_path
from tests.support.minutely import lives, story
from tests.support.streams import send

QUERIES = sorted((project_path("sql") / "queries").glob("*.sql"))


@pytest.fixture
def filled(engine: Engine) -> Engine:
    bad = {"request_id": "bad", "model": "m", "score": 2}
    with EventLog(engine) as log:
        send(log, lives() + story(0, 300))
        try:
            parse("inference", bad)
        except Exception as error:
            log.append("inference", [Rejected(bad, error)])  # type: ignore[arg-type]
    return engine


def test_all_run_as_the_reader(filled: Engine) -> None:
    assert len(QUERIES) >= 12
    returned = {}
    with psycopg.connect(filled.dsn, autocommit=True) as connection:
        connection.execute("set role headrace_reader")
        for path in QUERIES:
            returned[path.stem] = len(connection.execute(path.read_text()).fetchall())
        for schema in ("events.inference", "panes.labels", "control.policies"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"select * from {schema}")
    silent = {name for name, rows in returned.items() if rows == 0}
    # In this story of a day nothing was trained, embedded, shadowed or left without a label.
    # Nor did anything drift.
    assert silent <= {
        "04_how_long_is_the_loop",
        "05_which_features_moved",
        "08_what_to_label_next",
        "09_may_the_canary_be_promoted",
        "11_what_would_another_policy_earn",
        "15_what_got_worse_and_since_when",
        "17_what_did_the_experiment_show",
        "18_what_is_like_a_mistake",
    }


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_each_is_short_and_says_what_it_asks(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("-- ") and text.splitlines()[0].endswith("?")
    assert len(text.splitlines()) <= 30

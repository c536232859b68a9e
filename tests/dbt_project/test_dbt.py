"""dbt builds the project with all its tests, keeps panes, and rebuilds changed ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.deploy import dbt
from headrace.engine import Engine
from headrace.errors import EngineError
from headrace.events.log import EventLog
from headrace.settings import project_path
from tests.support.comments import comments
from tests.support.minutely import lives, story
from tests.support.policies import stretched
from tests.support.project_copy import copy_of_project, replace
from tests.support.rewards import Story, stories
from tests.support.stored import empty, pane_oids
from tests.support.streams import send


def test_build_from_nothing_run_again_and_with_a_changed_pane(
    engine: Engine, tmp_path: Path
) -> None:
    with engine.connect() as connection:
        connection.execute("drop schema headrace cascade")
        connection.execute("drop schema panes cascade")
    dbt(engine, "build")
    fresh = pane_oids(engine)
    assert set(fresh) == {path.stem for path in project_path("dbt_project").rglob("panes/*.sql")}

    with EventLog(engine) as log:
        send(log, lives() + story(0, 300))
        send(log, story(250, 400))
    dbt(engine, "run")
    assert pane_oids(engine) == fresh
    before = totals(engine)
    said = comments(engine)
    assert len(said) > 500
    assert before["labels"] == 400 and before["corrections"] == 40

    # A correction no longer counts as a label: the pane and all that stands on it is made anew.
    project = copy_of_project(tmp_path)
    macro = project / "macros/pane/labels.sql"
    replace(macro, "f.label is not null\n", "f.label is not null and f.kind != 'correction'\n")
    # Views stand right on this one.
    replace(project / "models/panes/feedback_panes.sql", "count(*)", "count(feedback_id)")
    dbt(engine, "run", "--project-dir", str(project))
    rebuilt = {name for name, oid in pane_oids(engine).items() if fresh[name] != oid}
    assert rebuilt == {
        "labels", "label_arrivals", "label_counts", "label_panes", "delay_panes",
        "item_label_panes", "arm_panes", "endpoint_panes", "class_panes", "feedback_panes",
        "clocks", "known_labels", "segment_label_panes", "shadow_label_panes", "unit_panes",
        "target_panes",
    }  # fmt: skip
    after = totals(engine)
    assert after == {**before, "corrections": 0}

    # A project without descriptions has no comments.
    assert comments(engine) == {}

    # The triggers of the rebuilt panes follow the events that come after.
    with EventLog(engine) as log:
        send(log, story(400, 500))
    last = totals(engine)
    assert last == {
        "labels": 500, "corrections": 0, "performance": 500, "panes": 500, "counts": 500,
    }  # fmt: skip

    # What is swapped back has its comments again.
    dbt(engine, "run")
    assert comments(engine) == said


def totals(engine: Engine) -> dict[str, int]:
    """Labels as several panes and marts count them."""
    (row,) = engine.rows(
        """
        select
            (select count(*) from headrace.labeled_examples) as labels,
            (
                select count(*) from headrace.labeled_examples where kind = 'correction'
            ) as corrections,
            (
                select sum(labeled) from headrace.model_performance
                where window_name = '1 day'
            )::bigint as performance,
            (
                select sum(examples) from panes.label_panes
                where clock = 'label'
            )::bigint as panes,
            (select sum(examples) from panes.label_counts)::bigint as counts
        """
    )
    return row


def test_data_tests_can_fail(engine: Engine) -> None:
    with EventLog(engine) as log:
        send(log, story(0, 20))
    with engine.connect() as connection:
        connection.execute("delete from panes.inference_panes where grain = '1 hour'")
        connection.execute("update panes.label_counts set examples = -1 where label = 'no'")
        connection.execute("insert into panes.label_counts values (null, 'no', 1)")
    with pytest.raises(EngineError) as caught:
        dbt(engine, "test", "--select", "label_counts", "--exclude", "test_type:unit")
    # unique_key and every_row of label_counts, and panes_add_up_to_events
    assert "WARN=0 ERROR=3" in str(caught.value)


@pytest.fixture
def data_tests(engine: Engine) -> Path:
    """A folder with the SQL of every data test: each row that it returns is a failure."""
    dbt(engine, "compile", "--select", "test_type:data")
    return engine.settings.home.resolve() / "dbt" / "target" / "compiled" / "headrace"


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories(), stretch=st.sampled_from([1.0, 1.0, 30.0]), expired=st.booleans())
def test_no_story_fails_a_data_test(
    engine: Engine, data_tests: Path, story: Story, stretch: float, expired: bool
) -> None:
    """Hours to years of events at their worst, with what is beyond retention dropped or not."""
    empty(engine)
    with engine.connect() as connection:
        connection.execute("truncate control.horizons")
    with EventLog(engine) as log:
        send(log, [("model_events", life) for life in story.lives])
        stretched(story.stream, stretch).send(log)
        if expired:
            engine.rows("select control.expire()")
            stretched(story.stream, stretch / 2).send(log)
    assert failed_tests(engine, data_tests) == {}


def failed_tests(engine: Engine, data_tests: Path) -> dict[str, list[Any]]:
    """The data tests that return rows, with some of these."""
    queries = [*data_tests.glob("tests/*.sql"), *data_tests.glob("models/*/*.yml/*.sql")]
    assert len(queries) > 150
    with engine.connect() as connection:
        return {
            file.stem: rows[:3]
            for file in queries
            if (rows := connection.execute(file.read_bytes()).fetchall())
        }


def test_busy_days_fail_no_data_test(engine: Engine, data_tests: Path) -> None:
    """Events in every minute of several days, so that windows begin amid what is still kept."""
    with EventLog(engine) as log:
        send(log, lives() + story(0, 3500))
    assert failed_tests(engine, data_tests) == {}
